"""OpenFlow 1.3 as bytes: the messages that are sent, and what is read of those that arrive. Pure.

Without a library. The flow controller's library keeps its connections, and would make objects of
each message: for thousands of flows that takes longer than all else, and a command or the agent
would load 80 modules for a dozen messages. Formats are those of the OpenFlow 1.3.5 specification.
"""

import struct
from collections.abc import Iterable, Iterator

from ovs_metadata.flows import nicira, oxm
from ovs_metadata.flows.family import MPLS
from ovs_metadata.flows.ours import is_ours
from ovs_metadata.flows.tables import COOKIE_PREFIX, FILTER_MASK
from ovs_metadata.flows.values import (
    Action,
    ApplyMeter,
    Flow,
    FlowKey,
    GotoTable,
    Move,
    Output,
    OutputInPort,
    Recirculate,
    RemoveOuterTag,
    SetField,
    SetHopLimit,
)
from ovs_metadata.host.config import FlowOptions

VERSION = 4
"""Of OpenFlow 1.3, on the wire."""

HELLO, ERROR, EXPERIMENTER, FLOW_REMOVED, PACKET_OUT, FLOW_MOD = 0, 1, 4, 11, 13, 14
MULTIPART_REQUEST, MULTIPART_REPLY, BARRIER_REQUEST, BARRIER_REPLY, SET_ASYNC = 18, 19, 20, 21, 28
"""Types of messages."""

ADD, DELETE_STRICT = 0, 4
"""Commands of FLOW_MOD."""

REMOVED_BY_DELETE = 2
"""OFPRR_DELETE."""

_REMOVED_WITH_METER = 4
"""OFPRR_METER_DELETE of OpenFlow 1.4. Open vSwitch reports it as OFPRR_DELETE where OpenFlow 1.3 is
spoken, but only to a connection that has asked for this reason."""

SEND_FLOW_REM = 1
"""OFPFF_SEND_FLOW_REM."""

HEADER = struct.Struct("!BBHI")
"""Version, type, length, transaction."""

_NO_BUFFER = _ANY = 0xFFFFFFFF
"""OFP_NO_BUFFER; OFPP_ANY and OFPG_ANY."""

_IN_PORT, _TABLE, _CONTROLLER = 0xFFFFFFF8, 0xFFFFFFF9, 0xFFFFFFFD
"""Reserved port numbers."""

_ALL_TABLES = 0xFF
_WHOLE_COOKIE = 2**64 - 1
"""Mask of a cookie of which every bit counts."""

_FLOW_STATS, _REPLY_MORE = 1, 1
"""OFPMP_FLOW, and OFPMPF_REPLY_MORE."""

_GOTO_TABLE, _APPLY_ACTIONS, METER = 1, 4, 6
_OUTPUT, _POP_VLAN, _PUSH_MPLS, _POP_MPLS, _SET_NW_TTL, _SET_FIELD = 0, 18, 19, 20, 23, 25
"""Instructions, and actions."""

_WHOLE_PACKET = 0xFFFF
"""OFPCML_NO_BUFFER."""

_FLOW_MOD = struct.Struct("!BBHIQQBBHHHIIIHxx")
FLOW_MOD_HEAD = _FLOW_MOD.size
"""Where the match of a FLOW_MOD begins; the instructions follow it."""
_MULTIPART = struct.Struct("!HH4x")
BODY_OF_MULTIPART = HEADER.size + _MULTIPART.size
"""Where the body of a multipart reply begins."""
_FLOW_STATS_REQUEST = struct.Struct("!B3xII4xQQ")
_PACKET_OUT = struct.Struct("!IIH6x")


_ONF, _BUNDLE_CONTROL, _BUNDLE_ADD = 0x4F4E4600, 2300, 2301
_OPEN, _COMMIT = 0, 4
_IN_ORDER_AND_WHOLE = 1 | 2
"""OFPBF_ATOMIC and OFPBF_ORDERED."""
_BUNDLE = struct.Struct("!IIIHH")
"""Experimenter, type, number of the bundle, type of control (or padding), flags."""


def message(kind: int, body: bytes = b"") -> bytes:
    """A message of this type."""
    return HEADER.pack(VERSION, kind, HEADER.size + len(body), 0) + body


def _check(options: FlowOptions, key: FlowKey, cookie: int) -> None:
    if not is_ours(options, key, cookie):
        raise ValueError(f"{key} with cookie {cookie:#x} is not our flow: it stays as it is")


def add_message(options: FlowOptions, flow: Flow) -> bytes:
    """The message that adds a flow, or replaces the one of the same key.

    Raises:
        ValueError: it is not our flow.
    """
    _check(options, flow.key, flow.cookie)
    body = oxm.encode_match(flow.key.match) + instructions(flow.actions)
    return message_that_adds(flow.key.table, flow.key.priority, flow.cookie, body)


def message_that_adds(table: int, priority: int, cookie: int, body: bytes) -> bytes:
    """The message that adds a flow whose match and instructions are `body`."""
    return (
        _FLOW_MOD.pack(
            *(VERSION, FLOW_MOD, _FLOW_MOD.size + len(body), 0),
            *(cookie, 0, table, ADD, 0, 0, priority),
            *(_NO_BUFFER, 0, 0, SEND_FLOW_REM),
        )
        + body
    )


def delete_message(options: FlowOptions, key: FlowKey, cookie: int) -> bytes:
    """The message that deletes the one flow of this key, if it has this cookie.

    Raises:
        ValueError: it is not our flow.
    """
    _check(options, key, cookie)
    match = oxm.encode_match(key.match)
    head = _FLOW_MOD.pack(
        *(VERSION, FLOW_MOD, _FLOW_MOD.size + len(match), 0),
        *(cookie, _WHOLE_COOKIE, key.table, DELETE_STRICT, 0, 0, key.priority),
        *(_NO_BUFFER, _ANY, _ANY, 0),
    )
    return head + match


def in_bundle(messages: Iterable[bytes]) -> Iterator[bytes]:
    """Messages that have the switch carry out these all at once, or none if it refuses one.

    Open vSwitch looks at each of its ports again after some 50 single messages that change flows.
    A bundle is an extension of OpenFlow 1.3 (ONF EXT-230).
    """
    yield message(EXPERIMENTER, _BUNDLE.pack(_ONF, _BUNDLE_CONTROL, 1, _OPEN, _IN_ORDER_AND_WHOLE))
    head = _BUNDLE.pack(_ONF, _BUNDLE_ADD, 1, 0, _IN_ORDER_AND_WHOLE)
    for each in messages:
        yield message(EXPERIMENTER, head + each)
    yield message(
        EXPERIMENTER, _BUNDLE.pack(_ONF, _BUNDLE_CONTROL, 1, _COMMIT, _IN_ORDER_AND_WHOLE)
    )


def hello_message() -> bytes:
    """The message that opens a connection."""
    return message(HELLO)


def dump_message() -> bytes:
    """The message that asks for all our flows; the reply has a few of others, too (FILTER_MASK)."""
    return _flow_stats_request(COOKIE_PREFIX, FILTER_MASK)


def dump_of_all_message() -> bytes:
    """The message that asks for all flows, also those of other programs."""
    return _flow_stats_request(0, 0)


def _flow_stats_request(cookie: int, mask: int) -> bytes:
    request = _FLOW_STATS_REQUEST.pack(_ALL_TABLES, _ANY, _ANY, cookie, mask)
    return multipart_request(_FLOW_STATS, request + oxm.EMPTY_MATCH)


def multipart_request(kind: int, body: bytes = b"") -> bytes:
    """A request of this type (OFPMP_*), to which there is one reply or several."""
    return message(MULTIPART_REQUEST, _MULTIPART.pack(kind, 0) + body)


def barrier_message() -> bytes:
    """The message whose reply means that all before it has been carried out."""
    return message(BARRIER_REQUEST)


def packet_out_message(ofport: int, frame: bytes) -> bytes:
    """The message that has the switch treat a frame as if it had come in by a port."""
    return _packet_out(ofport, _TABLE, frame)


def frame_out_message(ofport: int, frame: bytes) -> bytes:
    """The message that has the switch send a frame out of a port, past all flows."""
    return _packet_out(_CONTROLLER, ofport, frame)


def _packet_out(in_port: int, out_port: int, frame: bytes) -> bytes:
    action = _output(out_port)
    return message(PACKET_OUT, _PACKET_OUT.pack(_NO_BUFFER, in_port, len(action)) + action + frame)


def removals_wanted_message() -> bytes:
    """The message that subscribes to deletions of flows, and to nothing else.

    A connection to the management socket gets no notifications until it subscribes.
    """
    packets_and_ports = (0, 0, 0, 0)
    as_equal_and_as_slave = [1 << REMOVED_BY_DELETE | 1 << _REMOVED_WITH_METER] * 2
    return message(SET_ASYNC, struct.pack("!6I", *packets_and_ports, *as_equal_and_as_slave))


def instructions(actions: Iterable[Action]) -> bytes:
    """The instructions that carry these out."""
    actions = tuple(actions)
    applied = b"".join(
        _action(each) for each in actions if not isinstance(each, ApplyMeter | GotoTable)
    )
    encoded = b"".join(
        struct.pack("!HHI", METER, 8, each.number)
        for each in actions
        if isinstance(each, ApplyMeter)
    )
    if applied:
        encoded += struct.pack("!HH4x", _APPLY_ACTIONS, 8 + len(applied)) + applied
    for each in actions:
        if isinstance(each, GotoTable):
            encoded += struct.pack("!HHB3x", _GOTO_TABLE, 8, each.table)
    return encoded


def _action(action: Action) -> bytes:
    match action:
        case SetField(field, value):
            body = oxm.encode_set_field(field, value)
            body += bytes(-(4 + len(body)) % 8)
            return struct.pack("!HH", _SET_FIELD, 4 + len(body)) + body
        case SetHopLimit(hops):
            return struct.pack("!HHB3x", _SET_NW_TTL, 8, hops)
        case RemoveOuterTag():
            return struct.pack("!HH4x", _POP_VLAN, 8)
        case Move():
            return nicira.encode_move(action)
        case Output() | OutputInPort():
            return _output(action.ofport if isinstance(action, Output) else _IN_PORT)
        case Recirculate(eth_type):
            push, pop = (_PUSH_MPLS, 8, MPLS), (_POP_MPLS, 8, eth_type)
            return struct.pack("!HHH2x", *push) + struct.pack("!HHH2x", *pop)
        case _:
            raise TypeError(f"{action!r} is an instruction, not an action")


def _output(ofport: int) -> bytes:
    return struct.pack("!HHIH6x", _OUTPUT, 16, ofport, _WHOLE_PACKET)


def entries_of(reply: bytes) -> tuple[list[bytes], bool]:
    """The entries of one part of a reply, and whether further parts follow.

    Each entry begins with its length, as in replies about flows and about meters.
    """
    _, flags = _MULTIPART.unpack_from(reply, HEADER.size)
    entries = []
    at = BODY_OF_MULTIPART
    while at < len(reply):
        (length,) = struct.unpack_from("!H", reply, at)
        entries.append(reply[at : at + length])
        at += length
    return entries, bool(flags & _REPLY_MORE)
