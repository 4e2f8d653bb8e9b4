"""Reads what the switch reports of flows, and only the parts that a caller needs. Pure.

Matches and instructions stay bytes until a caller asks for them: a dump has thousands of flows, and
most are just as they should be.
"""

import struct

from ovs_metadata.flows import wire
from ovs_metadata.flows.flow_message import WireKey
from ovs_metadata.flows.ours import is_ours, matched_fields
from ovs_metadata.flows.oxm import decode_match, in_our_order
from ovs_metadata.flows.tables import has_our_cookie
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import FlowOptions

_REMOVED = struct.Struct("!QHBBIIHHQQ")
"""ofp_flow_removed after the header: cookie, priority, reason, table; seven numbers that no caller
needs."""

_STATS = struct.Struct("!HBxIIHHHH4xQQQ")
"""ofp_flow_stats: length, table, two of its age, priority, two timeouts, flags; cookie, packets,
bytes."""


class RemovedFlow:
    """A flow that the switch reports as removed."""

    __slots__ = ("_message", "cookie", "priority", "reason", "table_id")

    def __init__(self, message: bytes) -> None:
        """Read a FLOW_REMOVED, header included."""
        fixed = _REMOVED.unpack_from(message, wire.HEADER.size)
        self.cookie, self.priority, self.reason, self.table_id = fixed[:4]
        self._message = message

    @property
    def wire_of_match(self) -> bytes:
        """What it matched."""
        return in_our_order(self._message[wire.HEADER.size + _REMOVED.size :])


class DumpedStats:
    """A flow of a dump. Match and instructions are bytes."""

    __slots__ = (
        *("_entry", "_instructions_at", "_match_at"),
        *("byte_count", "cookie", "flags", "length", "packet_count", "priority", "table_id"),
    )

    def __init__(self, entry: bytes) -> None:
        values = _STATS.unpack_from(entry)
        self.length, self.table_id, self.priority = values[0], values[1], values[4]
        self.flags, self.cookie, self.packet_count, self.byte_count = values[7:]
        self._match_at = _STATS.size
        (match_length,) = struct.unpack_from("!2xH", entry, self._match_at)
        self._instructions_at = self._match_at + match_length + -match_length % 8
        self._entry = entry

    @classmethod
    def parser(cls, buf: bytes, offset: int) -> "DumpedStats":
        """Read one out of a reply, as the library asks its own class to."""
        (length,) = struct.unpack_from("!H", buf, offset)
        return cls(bytes(buf[offset : offset + length]))

    @property
    def wire_of_match(self) -> bytes:
        """What it matches."""
        return in_our_order(self._entry[self._match_at : self._instructions_at])

    @property
    def wire_of_instructions(self) -> bytes:
        """What it does."""
        return self._entry[self._instructions_at :]

    @property
    def message(self) -> bytes:
        """The message that adds the same flow; empty if the switch would not report its removal."""
        if not self.flags & wire.SEND_FLOW_REM:
            return b""
        body = self.wire_of_match + self.wire_of_instructions
        return wire.message_that_adds(self.table_id, self.priority, self.cookie, body)


def our_key(options: FlowOptions, reported: DumpedStats | RemovedFlow) -> FlowKey | None:
    """The key of a flow that a dump or a FLOW_REMOVED reports; None if the flow is not ours."""
    if not has_our_cookie(reported.cookie):
        return None
    match = decode_match(reported.wire_of_match, matched_fields())
    if match is None:
        return None
    key = FlowKey(reported.table_id, reported.priority, match)
    return key if is_ours(options, key, reported.cookie) else None


def wire_key(reported: DumpedStats | RemovedFlow) -> WireKey:
    """What identifies a flow that a dump or a FLOW_REMOVED reports."""
    return reported.table_id, reported.priority, reported.wire_of_match


def same_content(stats: DumpedStats, flow: Flow) -> bool:
    """Whether a dumped flow does exactly what `flow` does, under the same cookie."""
    return bool(
        stats.cookie == flow.cookie
        and stats.flags & wire.SEND_FLOW_REM
        and stats.wire_of_instructions == wire.instructions(flow.actions)
    )
