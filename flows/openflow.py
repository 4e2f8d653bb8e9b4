"""The OpenFlow library's connections to switches: the one module that imports them.

Importing this module also has the library leave the flows that a switch reports as they are: `wire`
and `reported` have the messages.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Protocol

from ovs_metadata.flows.library import LIBRARY, library
from ovs_metadata.flows.reported import DumpedStats

hub = library("lib.hub")
app_manager = library("base.app_manager")  # has to be imported before the controller
controller = library("controller.controller")
ofp_event = library("controller.ofp_event")
ofp_handler = library("controller.ofp_handler")
handler = library("controller.handler")
host_conf = library("cfg").CONF
ofproto = library("ofproto.ofproto_v1_3")
_parser = library("ofproto.ofproto_v1_3_parser")

set_ev_cls = handler.set_ev_cls
App: Any = app_manager.RyuApp if LIBRARY == "ryu" else app_manager.OSKenApp


class Datapath(Protocol):
    """A connected switch, as the library makes it."""

    id: int | None
    address: Any

    def send(self, data: bytes) -> None:
        """Queue messages for sending."""

    def close(self) -> None:
        """End the connection."""


class UnixStream:
    """A UNIX stream socket that lets itself be treated as a TCP one.

    The library sets TCP_NODELAY on every connection it is handed, which fails on a UNIX socket. And
    it reads each message in two parts, which takes longer than all else when thousands arrive: they
    are read together.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._read = b""
        self._at = 0

    def setsockopt(self, *_option: int) -> None:
        """Do nothing: no option of TCP means anything here."""

    def recv(self, size: int) -> bytes:
        """Return the next bytes, at most so many; none at the end of the stream."""
        if self._at == len(self._read):
            self._read, self._at = self._sock.recv(_READ_AT_ONCE), 0
        part = self._read[self._at : self._at + size]
        self._at += len(part)
        return part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


_READ_AT_ONCE = 1 << 16

MESSAGES_AT_ONCE = 64


def send_all(datapath: Datapath, messages: Iterable[bytes]) -> None:
    """Send many messages, several with each write, and hold no more than those in memory."""
    remaining = iter(messages)
    while batch := b"".join(islice(remaining, MESSAGES_AT_ONCE)):
        datapath.send(batch)


_LibraryRemoved: Any = _parser.OFPFlowRemoved


class _RemovedFlows(_LibraryRemoved):  # type: ignore[misc]
    """The FLOW_REMOVEDs that arrived one after the other, as bytes: one event for all of them.

    Thousands may arrive at once, and most are never read. The class has the library's name, because
    the library derives the name of the event from it.
    """

    def __init__(self, datapath: Any) -> None:
        super().__init__(datapath)
        self.messages: list[bytes] = []

    @classmethod
    def parser(cls, datapath: Any, *header_and_data: Any) -> Any:
        """Read one, as the library asks its own class to; None if an earlier event has it."""
        message = bytes(header_and_data[-1])
        batch = getattr(datapath, _BATCH, None)
        if batch is not None:
            batch.messages.append(message)
            return None
        batch = cls(datapath)
        batch.messages.append(message)
        if datapath.state == handler.MAIN_DISPATCHER:  # otherwise the event has no handler
            setattr(datapath, _BATCH, batch)
        return batch


_BATCH = "removed_flows"
"""Attribute of a connected switch: the last event, if further removals belong to it."""


def removed_flows(event_message: Any) -> list[bytes]:
    """The FLOW_REMOVEDs of an event; those that arrive from now on are of another one."""
    _end_batch(event_message.datapath)
    return list(event_message.messages)


def _end_batch(datapath: Any) -> None:
    setattr(datapath, _BATCH, None)


def _reply_parser(datapath: Any, *header_and_data: Any) -> Any:
    """Read a multipart reply. What is removed after a dump must not be handled before it."""
    _end_batch(datapath)
    return _parse_reply(datapath, *header_and_data)


_RemovedFlows.__name__ = _LibraryRemoved.__name__
_parser._MSG_PARSERS[ofproto.OFPT_FLOW_REMOVED] = _RemovedFlows.parser
_parse_reply = _parser._MSG_PARSERS[ofproto.OFPT_MULTIPART_REPLY]
_parser._MSG_PARSERS[ofproto.OFPT_MULTIPART_REPLY] = _reply_parser
_parser.OFPFlowStatsReply.cls_stats_body_cls = DumpedStats


def more_to_come(message: Any) -> bool:
    """Whether further parts of a multipart reply follow this one."""
    return bool(message.flags & ofproto.OFPMPF_REPLY_MORE)
