"""Flows as the messages that add them (FLOW_MOD): what of a flow is read out of its message. Pure.

The flow controller keeps each desired flow as its message, without objects for match and actions:
that is a seventh of the memory, it is sent as it is, and a dump has the same bytes.
"""

import struct
from collections.abc import Iterator

from ovs_metadata.flows import wire
from ovs_metadata.flows.ours import matched_fields
from ovs_metadata.flows.oxm import decode_match
from ovs_metadata.flows.values import FlowKey
from ovs_metadata.host.config import FlowOptions

WireKey = tuple[int, int, bytes]
"""What identifies a flow in a switch: table, priority, and match in wire format."""

_LENGTH_AT, _COOKIE_AT, _TABLE_AT, _PRIORITY_AT, _MATCH_AT = 2, 8, 24, 30, wire.FLOW_MOD_HEAD
_METER = struct.Struct("!HHI")
"""The instruction: its type, its length, the meter's number."""


def messages_in(group: bytes) -> Iterator[bytes]:
    """The messages of a group, in which they follow each other."""
    at = 0
    while at < len(group):
        end = at + int.from_bytes(group[at + _LENGTH_AT : at + _LENGTH_AT + 2], "big")
        yield group[at:end]
        at = end


def count(group: bytes) -> int:
    """The number of messages of a group."""
    return sum(1 for _ in messages_in(group))


def by_key(group: bytes) -> dict[WireKey, bytes]:
    """The messages of a group, by their flows' keys."""
    return {key_of(message): message for message in messages_in(group)}


def table_of(message: bytes) -> int:
    """The table of a flow."""
    return message[_TABLE_AT]


def cookie_of(message: bytes) -> int:
    """The cookie of a flow."""
    return int.from_bytes(message[_COOKIE_AT : _COOKIE_AT + 8], "big")


def key_of(message: bytes) -> WireKey:
    """What identifies a flow."""
    priority = int.from_bytes(message[_PRIORITY_AT : _PRIORITY_AT + 2], "big")
    return message[_TABLE_AT], priority, message[_MATCH_AT : _instructions_at(message)]


def meter_of(message: bytes) -> int | None:
    """The number of the meter that a flow's packets pass: it is the first instruction."""
    at = _instructions_at(message)
    if len(message) < at + _METER.size:
        return None
    kind, _, number = _METER.unpack_from(message, at)
    return number if kind == wire.METER else None


def deletion_message(options: FlowOptions, key: WireKey, cookie: int) -> bytes:
    """The message that deletes the one flow of this key, if it has this cookie.

    Raises:
        ValueError: it is not our flow.
    """
    table, priority, encoded = key
    match = decode_match(encoded, matched_fields())
    if match is None:
        raise ValueError(f"the match {encoded.hex()} is not the match of our flow")
    return wire.delete_message(options, FlowKey(table, priority, match), cookie)


def _instructions_at(message: bytes) -> int:
    length = int.from_bytes(message[_MATCH_AT + 2 : _MATCH_AT + 4], "big")
    return _MATCH_AT + length + -length % 8
