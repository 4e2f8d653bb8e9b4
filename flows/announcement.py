"""Tells a guest whose hooks are new which MAC the service address has over IPv6. Pure.

A guest may hold another MAC for it, from whoever answered there until now. Over IPv6 its requests
would then pass the hook, until its kernel asks again: that takes 11 to 39 seconds. An unsolicited
advertisement (RFC 4861, section 7.2.6) replaces what it holds, and makes no entry where there is
none. Over IPv4 any MAC will do.
"""

import socket
import struct
from collections.abc import Iterable

from ovs_metadata.flows.family import (
    ETH_IPV6,
    ICMPV6,
    NEIGHBOR_ADVERTISEMENT,
    TARGET_LINK_LAYER_ADDRESS,
)
from ovs_metadata.flows.tables import ofport_of
from ovs_metadata.flows.values import Flow
from ovs_metadata.host.address import METADATA_PORT_MAC, SERVICE_IPV6

ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
OVERRIDE = 0x20000000
"""Flag of an advertisement: it replaces what was known; nobody asked for it."""


def ports_to_tell(added: Iterable[Flow]) -> list[int]:
    """The ofports among whose new flows is the hook for requests over IPv6."""
    told = []
    for flow in added:
        fields = dict(flow.key.match.fields)
        if flow.key.table == 0 and fields.get("eth_type") == ETH_IPV6 and "tcp_dst" in fields:
            told.append(ofport_of(flow.cookie))
    return told


def advertisement() -> bytes:
    """The frame, without its check sequence."""
    service = socket.inet_pton(socket.AF_INET6, SERVICE_IPV6)
    everybody = socket.inet_pton(socket.AF_INET6, ALL_NODES)
    mac = bytes.fromhex(METADATA_PORT_MAC.replace(":", ""))
    # The option's length is in units of 8 bytes.
    option = struct.pack("!BB", TARGET_LINK_LAYER_ADDRESS, 1) + mac
    rest = struct.pack("!I", OVERRIDE) + service + option
    length = 4 + len(rest)
    pseudo_header = service + everybody + struct.pack("!IxxxB", length, ICMPV6)
    message = struct.pack("!BBH", NEIGHBOR_ADVERTISEMENT, 0, 0) + rest
    checksum = _checksum(pseudo_header + message)
    message = struct.pack("!BBH", NEIGHBOR_ADVERTISEMENT, 0, checksum) + rest
    header = struct.pack("!IHBB", 6 << 28, length, ICMPV6, 255) + service + everybody
    ethernet = bytes.fromhex(ALL_NODES_MAC.replace(":", "")) + mac + struct.pack("!H", ETH_IPV6)
    return ethernet + header + message


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF
