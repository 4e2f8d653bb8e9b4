"""Frames of Ethernet that are put into the switch. Pure."""

import ipaddress
import struct
from dataclasses import dataclass

from ovs_metadata.flows.family import (
    ARP_REQUEST,
    BROADCAST_MAC,
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ICMPV6,
    NEIGHBOR_ADVERTISEMENT,
    NEIGHBOR_SOLICITATION,
    SOLICITED_NODE_MAC,
    TCP,
)
from ovs_metadata.host.address import SERVICE_IPV4, SERVICE_IPV6

SOLICITED_NODE = "ff02::1:fffe:a9fe"
"""Where solicitations for the service address go (RFC 4291, section 2.7.1)."""
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
"""Every host on the link."""

_OVERRIDE = 0x20000000
"""Flags of an advertisement: its MAC replaces a known one; not from a router, not solicited."""
_SOURCE_MAC, _TARGET_MAC = 1, 2
"""Options of neighbour discovery that hold a MAC."""
_ON_LINK = 255
"""The hop limit of neighbour discovery: no router has passed it on (RFC 4861, section 7.1)."""
_DO_NOT_FRAGMENT = 0x4000
_TTL = 64
_UNKNOWN_MAC = "00:00:00:00:00:00"
_IN_ETHERNET, _OF_IPV4 = 1, 4
"""Hardware type and address length in ARP."""
_MAX_SEGMENT = 2
"""Option of TCP."""
_SHORTEST = 60
"""Bytes of a frame, without its checksum (IEEE 802.3)."""

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_NEIGHBOR = struct.Struct("!BBHI16sBB6s")
_TCP = struct.Struct("!HHIIBBHHH")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection: MAC, IPv4 address, TCP port."""

    mac: str
    address: str
    port: int


def arp_request(mac: str, source: str) -> bytes:
    """A guest's question for the service address over IPv4 (RFC 826)."""
    question = _ARP.pack(
        *(_IN_ETHERNET, ETH_IPV4, 6, _OF_IPV4, ARP_REQUEST),
        *(_mac(mac), _address(source), _mac(_UNKNOWN_MAC), _address(SERVICE_IPV4)),
    )
    return _frame(BROADCAST_MAC, mac, ETH_ARP, question)


def neighbor_solicitation(mac: str, source: str) -> bytes:
    """A guest's question for the service address over IPv6 (RFC 4861, section 4.3)."""
    question = _neighbor_discovery(
        source, SOLICITED_NODE, kind=NEIGHBOR_SOLICITATION, flags=0, option=_SOURCE_MAC, mac=mac
    )
    return _frame(SOLICITED_NODE_MAC, mac, ETH_IPV6, question)


def unsolicited_advertisement(mac: str) -> bytes:
    """Replaces the MAC that guests hold for the service address (RFC 4861, section 7.2.6)."""
    advertisement = _neighbor_discovery(
        SERVICE_IPV6,
        ALL_NODES,
        kind=NEIGHBOR_ADVERTISEMENT,
        flags=_OVERRIDE,
        option=_TARGET_MAC,
        mac=mac,
    )
    return _frame(ALL_NODES_MAC, mac, ETH_IPV6, advertisement)


def _neighbor_discovery(
    source: str, destination: str, *, kind: int, flags: int, option: int, mac: str
) -> bytes:
    """An IPv6 packet about the service address, with one MAC (RFC 4861, section 4)."""
    ends = _address(source) + _address(destination)

    def message(checksum: int) -> bytes:
        target = _address(SERVICE_IPV6)
        return _NEIGHBOR.pack(kind, 0, checksum, flags, target, option, 1, _mac(mac))

    pseudo_header = ends + struct.pack("!II", _NEIGHBOR.size, ICMPV6)
    header = _IPV6.pack(
        *(6 << 28, _NEIGHBOR.size, ICMPV6, _ON_LINK),
        *(ends[:16], ends[16:]),
    )
    return header + message(_checksum(pseudo_header + message(0)))


def tcp_segment(
    source: End,
    destination: End,
    *,
    sequence: int,
    acknowledged: int,
    flags: int,
    window: int,
    max_segment: int | None = None,
    payload: bytes = b"",
) -> bytes:
    """A segment of TCP over IPv4 (RFC 9293, section 3.1); `max_segment` is for a SYN alone."""
    ends = _address(source.address) + _address(destination.address)
    options = struct.pack("!BBH", _MAX_SEGMENT, 4, max_segment) if max_segment else b""
    length = _TCP.size + len(options) + len(payload)

    def segment(checksum: int) -> bytes:
        header = _TCP.pack(
            *(source.port, destination.port, sequence, acknowledged),
            *((_TCP.size + len(options)) // 4 << 4, flags, window, checksum, 0),
        )
        return header + options + payload

    def header(checksum: int) -> bytes:
        return _IPV4.pack(
            *(0x45, 0, _IPV4.size + length, 0, _DO_NOT_FRAGMENT, _TTL, TCP, checksum),
            *(ends[:4], ends[4:]),
        )

    pseudo_header = ends + struct.pack("!HH", TCP, length)
    packet = header(_checksum(header(0))) + segment(_checksum(pseudo_header + segment(0)))
    return _frame(destination.mac, source.mac, ETH_IPV4, packet)


def _frame(destination: str, source: str, eth_type: int, packet: bytes) -> bytes:
    frame = _ETHERNET.pack(_mac(destination), _mac(source), eth_type) + packet
    return frame.ljust(_SHORTEST, b"\0")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
