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

    The library sets TCP_NODELAY on every connection it is handed, which fails on a UNIX socket.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def setsockopt(self, *_option: int) -> None:
        """Do nothing: no option of TCP means anything here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


MESSAGES_AT_ONCE = 64


def send_all(datapath: Datapath, messages: Iterable[bytes]) -> None:
    """Send many messages, several with each write, and hold no more than those in memory."""
    remaining = iter(messages)
    while batch := b"".join(islice(remaining, MESSAGES_AT_ONCE)):
        datapath.send(batch)


_LibraryRemoved: Any = _parser.OFPFlowRemoved


class _RemovedFlow(_LibraryRemoved):  # type: ignore[misc]
    """A FLOW_REMOVED that stays bytes, in `buf`.

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
        return message


_RemovedFlow.__name__ = _LibraryRemoved.__name__
_parser._MSG_PARSERS[ofproto.OFPT_FLOW_REMOVED] = _RemovedFlow.parser
_parser.OFPFlowStatsReply.cls_stats_body_cls = DumpedStats


def more_to_come(message: Any) -> bool:
    """Whether further parts of a multipart reply follow this one."""
    return bool(message.flags & ofproto.OFPMPF_REPLY_MORE)
