"""OpenFlow on the wire: the one module that imports the OpenFlow library.

The library is Ryu when a Ryu process imports this (ryu-manager), os-ken otherwise: both have the
same API. Here flows become messages and messages become values; no decisions are taken.
"""

import importlib
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

from ovs_metadata.flows import nicira
from ovs_metadata.flows.fields import FIELDS, FIELDS_UNKNOWN_TO_THE_LIBRARY
from ovs_metadata.flows.fields import to_bytes as value_to_bytes
from ovs_metadata.flows.ours import is_ours
from ovs_metadata.flows.tables import COOKIE_PREFIX, FILTER_MASK
from ovs_metadata.flows.values import (
    Action,
    Flow,
    FlowKey,
    GotoTable,
    Match,
    MatchValue,
    Move,
    Output,
    OutputInPort,
    SetField,
)
from ovs_metadata.host.config import FlowOptions

LIBRARY = "ryu" if "ryu.base.app_manager" in sys.modules else "os_ken"


def library(module: str) -> Any:
    """A module of the library."""
    return importlib.import_module(f"{LIBRARY}.{module}")


hub = library("lib.hub")
app_manager = library("base.app_manager")  # has to be imported before the controller
controller = library("controller.controller")
ofp_event = library("controller.ofp_event")
ofp_handler = library("controller.ofp_handler")
handler = library("controller.handler")
host_conf = library("cfg").CONF
ofproto = library("ofproto.ofproto_v1_3")
parser = library("ofproto.ofproto_v1_3_parser")

set_ev_cls = handler.set_ev_cls
App: Any = app_manager.RyuApp if LIBRARY == "ryu" else app_manager.OSKenApp

REMOVED_BY_DELETE = ofproto.OFPRR_DELETE
BARRIER_REPLY = ofproto.OFPT_BARRIER_REPLY
MULTIPART_REPLY = ofproto.OFPT_MULTIPART_REPLY
ERROR = ofproto.OFPT_ERROR


class Datapath(Protocol):
    """A connected switch, as the library makes it."""

    id: int | None
    address: Any

    def send_msg(self, message: Any) -> None:
        """Serialise a message and queue it for sending."""

    def send(self, data: bytes) -> None:
        """Queue serialised messages for sending."""

    def close(self) -> None:
        """End the connection."""


class UnixStream:
    """A UNIX stream socket that lets itself be treated as a TCP one.

    The library sets TCP_NODELAY on every connection it is handed, which fails on a UNIX socket.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def setsockopt(self, *_option: int) -> None:
        """Do nothing: no option of TCP means anything here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


_WHOLE_COOKIE = 2**64 - 1
"""Mask of a cookie of which every bit counts."""

MESSAGES_AT_ONCE = 64


def send_all(datapath: Datapath, messages: Iterable[Any]) -> None:
    """Send many messages, several with each write, and hold no more than those in memory."""
    remaining = iter(messages)
    while batch := list(islice(remaining, MESSAGES_AT_ONCE)):
        datapath.send(b"".join(map(to_bytes, batch)))


def _check(options: FlowOptions, key: FlowKey, cookie: int) -> None:
    if not is_ours(options, key, cookie):
        raise ValueError(f"{key} with cookie {cookie:#x} is not our flow: it stays as it is")


def add_message(datapath: Datapath, options: FlowOptions, flow: Flow) -> Any:
    """The message that adds a flow, or replaces the one of the same key.

    Raises:
        ValueError: it is not our flow.
    """
    _check(options, flow.key, flow.cookie)
    return parser.OFPFlowMod(
        datapath,
        cookie=flow.cookie,
        table_id=flow.key.table,
        command=ofproto.OFPFC_ADD,
        priority=flow.key.priority,
        flags=ofproto.OFPFF_SEND_FLOW_REM,
        match=_to_match(flow.key.match),
        instructions=_instructions(flow.actions),
    )


def delete_message(datapath: Datapath, options: FlowOptions, key: FlowKey, cookie: int) -> Any:
    """The message that deletes the one flow of this key, if it has this cookie.

    Raises:
        ValueError: it is not our flow.
    """
    _check(options, key, cookie)
    return parser.OFPFlowMod(
        datapath,
        cookie=cookie,
        cookie_mask=_WHOLE_COOKIE,
        table_id=key.table,
        command=ofproto.OFPFC_DELETE_STRICT,
        priority=key.priority,
        out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY,
        match=_to_match(key.match),
    )


def hello_message(datapath: Datapath) -> Any:
    """The message that opens a connection."""
    return parser.OFPHello(datapath)


def dump_message(datapath: Datapath) -> Any:
    """The message that asks for all our flows; the reply has a few of others, too (FILTER_MASK)."""
    return parser.OFPFlowStatsRequest(datapath, cookie=COOKIE_PREFIX, cookie_mask=FILTER_MASK)


def dump_of_all_message(datapath: Datapath) -> Any:
    """The message that asks for all flows, also those of other programs."""
    return parser.OFPFlowStatsRequest(datapath)


def barrier_message(datapath: Datapath) -> Any:
    """The message whose reply means that all before it has been carried out."""
    return parser.OFPBarrierRequest(datapath)


def packet_out_message(datapath: Datapath, ofport: int, frame: bytes) -> Any:
    """The message that has the switch treat a frame as if it had come in by a port."""
    return parser.OFPPacketOut(
        datapath,
        buffer_id=ofproto.OFP_NO_BUFFER,
        in_port=ofport,
        actions=[parser.OFPActionOutput(ofproto.OFPP_TABLE)],
        data=frame,
    )


def frame_out_message(datapath: Datapath, ofport: int, frame: bytes) -> Any:
    """The message that has the switch send a frame out of a port, past all flows."""
    return parser.OFPPacketOut(
        datapath,
        buffer_id=ofproto.OFP_NO_BUFFER,
        in_port=ofproto.OFPP_CONTROLLER,
        actions=[parser.OFPActionOutput(ofport)],
        data=frame,
    )


def removals_wanted_message(datapath: Datapath) -> Any:
    """The message that subscribes to deletions of flows, and to nothing else.

    A connection to the management socket gets no notifications until it subscribes.
    """
    as_equal_and_as_slave = [1 << ofproto.OFPRR_DELETE] * 2
    return parser.OFPSetAsync(datapath, [0, 0], [0, 0], as_equal_and_as_slave)


def more_to_come(message: Any) -> bool:
    """Whether further parts of a multipart reply follow this one."""
    return bool(message.flags & ofproto.OFPMPF_REPLY_MORE)


_LibraryMatch: Any = parser.OFPMatch


class _RawMatch(_LibraryMatch):  # type: ignore[misc]
    """A match already encoded."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded

    def serialize(self, buf: bytearray, _offset: int) -> int:
        """Append it to a message; returns its length."""
        buf += self._encoded
        return len(self._encoded)


def _to_match(match: Match) -> Any:
    return _RawMatch(wire_of_match(match))


def wire_of_match(match: Match) -> bytes:
    """A match as it goes over the wire: OFPMT_OXM with its padding.

    In the order of their numbers, with which each begins, prerequisites come first.
    """
    body = b"".join(sorted(_oxm(*each) for each in match.fields))
    length = 4 + len(body)
    return struct.pack("!HH", ofproto.OFPMT_OXM, length) + body + bytes(-length % 8)


def oxm_type(match: bytes, at: int = 0) -> tuple[int, bytes]:
    """The field that a match has at this offset: its class and number, and its experimenter.

    An OXM header is class (16 bits), field (7), has-mask (1), length (8); in class 0xffff the
    experimenter follows.
    """
    (header,) = struct.unpack_from("!I", match, at)
    experimenter = match[at + 4 : at + 8] if header >> 16 == _EXPERIMENTER_CLASS else b""
    return header >> 9, experimenter


_EXPERIMENTER_CLASS = 0xFFFF


def _oxm(name: str, value: MatchValue) -> bytes:
    """The encoding of a field and its value.

    Values without a mask are written out here, for they are all that differs from port to port,
    and the library takes some 20 microseconds for one.
    """
    if isinstance(value, tuple):
        return _masked_oxm(name, value)
    header = oxm_header(name)
    if isinstance(value, int):
        return header + value.to_bytes(header[-1], "big")
    return header + value_to_bytes(FIELDS[name], value)


@lru_cache(maxsize=128)
def _masked_oxm(name: str, value: MatchValue) -> bytes:
    number, plain, mask = ofproto.oxm_from_user(name, value)
    buffer = bytearray()
    ofproto.oxm_serialize(number, plain, mask, buffer, 0)
    return bytes(buffer)


@lru_cache(maxsize=128)
def oxm_header(name: str) -> bytes:
    """The header of a field whose value has no mask."""
    buffer = bytearray()
    ofproto.oxm_serialize_header(ofproto.oxm_from_user_header(name), buffer, 0)
    return bytes(buffer)


_LibraryAction: Any = parser.OFPAction


class _RawAction(_LibraryAction):  # type: ignore[misc]
    """An action already encoded."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self.len = len(encoded)

    def serialize(self, buf: bytearray, offset: int) -> None:
        """Write it into a message; the bytes before the offset may still be missing."""
        buf += bytes(offset - len(buf)) + self._encoded


def _instructions(actions: Iterable[Action]) -> list[Any]:
    applied = [_action(each) for each in actions if not isinstance(each, GotoTable)]
    instructions = []
    if applied:
        instructions.append(
            parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, applied),
        )
    instructions += [
        parser.OFPInstructionGotoTable(each.table)
        for each in actions
        if isinstance(each, GotoTable)
    ]
    return instructions


def _action(action: Action) -> Any:
    match action:
        case SetField(field, value) if field in FIELDS_UNKNOWN_TO_THE_LIBRARY:
            return _RawAction(nicira.encode_set_field(action))
        case SetField(field, value):
            encoded = _oxm(field, value)
            length = 4 + len(encoded)
            padding = bytes(-length % 8)
            head = struct.pack("!HH", ofproto.OFPAT_SET_FIELD, length + len(padding))
            return _RawAction(head + encoded + padding)
        case Move():
            return parser.NXActionUnknown(nicira.REG_MOVE, nicira.encode_move(action))
        case Output(ofport):
            return parser.OFPActionOutput(ofport, ofproto.OFPCML_NO_BUFFER)
        case OutputInPort():
            return parser.OFPActionOutput(ofproto.OFPP_IN_PORT, ofproto.OFPCML_NO_BUFFER)
        case _:
            raise TypeError(f"{action!r} is an instruction, not an action")


def wire_of_actions(actions: Iterable[Action]) -> bytes:
    """The instructions that carry these out, as they go over the wire."""
    buffer = bytearray()
    for instruction in _instructions(actions):
        instruction.serialize(buffer, len(buffer))
    return bytes(buffer)


def to_bytes(message: Any) -> bytes:
    """A message as it goes over the wire."""
    message.set_xid(0)
    message.serialize()
    return bytes(message.buf)


def from_bytes(data: bytes) -> Any:
    """The message that came over the wire as these bytes, header included."""
    version, kind, length, transaction = library("ofproto.ofproto_parser").header(data)
    return parser.msg_parser(offline_datapath(), version, kind, length, transaction, data)


def offline_datapath() -> Any:
    """Something messages can be made for without a switch."""
    return library("ofproto.ofproto_protocol").ProtocolDesc(version=ofproto.OFP_VERSION)
