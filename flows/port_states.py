"""What keeps a port of the bridge from passing packets: OpenFlow's port configuration. Blocking."""

import struct
from collections.abc import Iterator, Mapping

from ovs_metadata.flows import wire
from ovs_metadata.flows.connection import OpenFlowConnection
from ovs_metadata.host.config import Config

_PORT_DESC, _REPLY_MORE = 13, 1
_REQUEST_BODY = struct.Struct("!HH4x")
_PORT = struct.Struct("!I4x6s2x16sII24x")
"""struct ofp_port of OpenFlow 1.3, section 7.2.1: number, MAC, name, configuration, state."""

SWITCHES = {0x04: "receive", 0x20: "forward"}
"""OFPPC_NO_RECV and OFPPC_NO_FWD: what `ovs-ofctl mod-port` says to switch each off."""


def closed_ports(config: Config) -> Mapping[int, tuple[str, ...]]:
    """Per ofport the switches that are off, of the ports that have any.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    closed: dict[int, tuple[str, ...]] = {}
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
            closed |= dict(parse(message[wire.BODY_OF_MULTIPART :]))
    return closed


def parse(ports: bytes) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The closed ones of a reply's ports."""
    for number, _mac, _name, configuration, _state in _PORT.iter_unpack(ports):
        switches = tuple(name for bit, name in SWITCHES.items() if configuration & bit)
        if switches:
            yield number, switches
