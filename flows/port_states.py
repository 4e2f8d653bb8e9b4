"""What keeps a port of the bridge from passing packets: OpenFlow's configuration and state of it.

Blocking.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ovs_metadata.flows import wire
from ovs_metadata.flows.connection import OpenFlowConnection
from ovs_metadata.host.config import Config

_PORT_DESC, _REPLY_MORE = 13, 1
_REQUEST_BODY = struct.Struct("!HH4x")
_PORT = struct.Struct("!I4x6s2x16sII24x")
"""struct ofp_port of OpenFlow 1.3, section 7.2.1: number, MAC, name, configuration, state."""

SWITCHES = {0x01: "up", 0x04: "receive", 0x20: "forward"}
"""OFPPC_PORT_DOWN, OFPPC_NO_RECV and OFPPC_NO_FWD: what `ovs-ofctl mod-port` says against each."""

_LINK_DOWN = 0x01
"""OFPPS_LINK_DOWN."""


@dataclass(frozen=True, slots=True)
class OpenFlowPort:
    """A port as OpenFlow has it. closed: the switches that are off, by the word that cures it."""

    closed: tuple[str, ...] = ()
    has_link: bool = True


def openflow_ports(config: Config) -> Mapping[int, OpenFlowPort]:
    """The ports of the bridge by number, those alone that do not pass all packets.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    found: dict[int, OpenFlowPort] = {}
    body = _REQUEST_BODY.pack(_PORT_DESC, 0)
    size = wire.HEADER.size + len(body)
    request = wire.HEADER.pack(wire.VERSION, wire.MULTIPART_REQUEST, size, 0) + body
    with OpenFlowConnection(config.management_socket) as switch:
        switch.send(request)
        more = True
        while more:
            message = switch.receive(wire.MULTIPART_REPLY)
            _kind, flags = _REQUEST_BODY.unpack_from(message, wire.HEADER.size)
            more = bool(flags & _REPLY_MORE)
            found |= dict(parse(message[wire.BODY_OF_MULTIPART :]))
    return found


def parse(ports: bytes) -> Iterator[tuple[int, OpenFlowPort]]:
    """Those of a reply's ports that do not pass all packets."""
    for number, _mac, _name, configuration, state in _PORT.iter_unpack(ports):
        closed = tuple(name for bit, name in SWITCHES.items() if configuration & bit)
        port = OpenFlowPort(closed, has_link=not state & _LINK_DOWN)
        if port != OpenFlowPort():
            yield number, port


def in_words(closed: Iterable[str]) -> str:
    """Switches that are off, as `ovs-ofctl` names that."""
    return ", ".join("down" if each == "up" else f"no-{each}" for each in closed)
