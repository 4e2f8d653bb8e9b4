"""Reads what the switch reports of flows, and only the parts that a caller needs.

The library makes an object of everything in a message. For a dump of thousands of flows that takes
longer than all other work. Here matches and instructions stay bytes until a caller asks for them.
Importing this module puts these classes in the place of the library's.
"""

import struct
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, cast

from ovs_metadata.flows.openflow import (
    ofproto,
    oxm_header,
    oxm_type,
    parser,
    wire_of_actions,
    wire_of_match,
)
from ovs_metadata.flows.ours import is_ours, matched_fields
from ovs_metadata.flows.tables import has_our_cookie
from ovs_metadata.flows.values import Flow, FlowKey, Match, MatchValue
from ovs_metadata.host.config import FlowOptions

_LibraryRemoved: Any = parser.OFPFlowRemoved
_REMOVED_MATCH_AT = ofproto.OFP_FLOW_REMOVED_SIZE - ofproto.OFP_MATCH_SIZE


WireKey = tuple[int, int, bytes]
"""A FlowKey whose match is as it goes over the wire: quickly compared with a dump's."""


def our_key(
    options: FlowOptions,
    message: "DumpedStats | RemovedFlow",
    desired: Mapping[WireKey, FlowKey] = MappingProxyType({}),
) -> FlowKey | None:
    """The key of a flow that a dump or a FLOW_REMOVED reports; None if the flow is not ours.

    Keys of `desired` flows are looked up and not decoded. The library never decodes a match of
    another program: it may have fields that the library does not know.
    """
    if not has_our_cookie(message.cookie):
        return None
    match = message.wire_of_match
    key = desired.get((message.table_id, message.priority, match))
    if key is None:
        if not _matches_our_fields(match):
            return None
        key = FlowKey(message.table_id, message.priority, _from_match(message.match))
    return key if is_ours(options, key, message.cookie) else None


def _matches_our_fields(match: bytes) -> bool:
    """Whether a match in wire format has only fields that our flows match."""
    (length,) = struct.unpack_from("!2xH", match)
    at = _MATCH_HEADER
    while at < length:
        (header,) = struct.unpack_from("!I", match, at)
        if oxm_type(match, at) not in _our_oxm_types():
            return False
        at += _OXM_HEADER + (header & 0xFF)
    return True


_MATCH_HEADER = _OXM_HEADER = 4


@cache
def _our_oxm_types() -> frozenset[tuple[int, bytes]]:
    return frozenset(oxm_type(oxm_header(name)) for name in matched_fields())


class RemovedFlow(_LibraryRemoved):  # type: ignore[misc]
    """A FLOW_REMOVED whose match stays bytes until a caller asks for it.

    Thousands may arrive at once, and most are never read. The class has the library's name, because
    the library derives the name of the event from it.
    """

    @classmethod
    def parser(cls, datapath: Any, *header_and_data: Any) -> Any:
        """Read one, as the library asks its own class to."""
        *header, data = header_and_data
        message = cls(datapath)
        message.set_headers(*header)
        message.set_buf(data)
        fixed = struct.unpack_from(
            ofproto.OFP_FLOW_REMOVED_PACK_STR0, message.buf, ofproto.OFP_HEADER_SIZE
        )
        message.cookie, message.priority, message.reason, message.table_id = fixed[:4]
        return message

    @property
    def wire_of_match(self) -> bytes:
        """What it matched."""
        return bytes(self.buf[_REMOVED_MATCH_AT:])

    @property
    def match(self) -> Any:
        """What it matched, made an object by the library."""
        return parser.OFPMatch.parser(self.buf, _REMOVED_MATCH_AT)

    @match.setter
    def match(self, _none: None) -> None:
        """Nothing: the library's constructor sets what it does not know yet."""


RemovedFlow.__name__ = _LibraryRemoved.__name__
parser._MSG_PARSERS[ofproto.OFPT_FLOW_REMOVED] = RemovedFlow.parser


def wire_key(key: FlowKey) -> WireKey:
    """The wire form of a key."""
    return key.table, key.priority, wire_of_match(key.match)


class DumpedStats:
    """A flow of a dump, in place of the library's OFPFlowStats, with the same attributes.

    Match and instructions are bytes.
    """

    def __init__(self, entry: bytes) -> None:
        values = struct.unpack_from(ofproto.OFP_FLOW_STATS_0_PACK_STR, entry)
        self.length, self.table_id, self.priority = values[0], values[1], values[4]
        self.flags, self.cookie, self.packet_count, self.byte_count = values[7:11]
        self._match_at = ofproto.OFP_FLOW_STATS_0_SIZE
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
        return self._entry[self._match_at : self._instructions_at]

    @property
    def wire_of_instructions(self) -> bytes:
        """What it does."""
        return self._entry[self._instructions_at :]

    @property
    def match(self) -> Any:
        """What it matches, made an object by the library."""
        return parser.OFPMatch.parser(self._entry, self._match_at)


parser.OFPFlowStatsReply.cls_stats_body_cls = DumpedStats


def same_content(stats: DumpedStats, flow: Flow) -> bool:
    """Whether a dumped flow does exactly what `flow` does, under the same cookie."""
    return bool(
        stats.cookie == flow.cookie
        and stats.flags & ofproto.OFPFF_SEND_FLOW_REM
        and stats.wire_of_instructions == wire_of_actions(flow.actions)
    )


def _from_match(match: Any) -> Match:
    return Match.of(**{name: cast("MatchValue", value) for name, value in match.items()})
