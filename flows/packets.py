"""Frames of Ethernet that are put into the switch, made by the OpenFlow library. Pure.

The library makes frames and reads none here: one TCP option without a length would keep its parser
busy for ever.
"""

from dataclasses import dataclass
from typing import Any

from ovs_metadata.flows.family import (
    ARP_REQUEST,
    BROADCAST_MAC,
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ETH_VLAN,
    ICMPV6,
    NEIGHBOR_ADVERTISEMENT,
    NEIGHBOR_SOLICITATION,
    SOLICITED_NODE_MAC,
    TCP,
)
from ovs_metadata.flows.library import library
from ovs_metadata.host.address import SERVICE_IPV4, SERVICE_IPV6

_packet = library("lib.packet.packet")
_ethernet = library("lib.packet.ethernet").ethernet
_arp = library("lib.packet.arp").arp
_ipv4 = library("lib.packet.ipv4").ipv4
_ipv6 = library("lib.packet.ipv6").ipv6
_icmpv6 = library("lib.packet.icmpv6")
_tcp = library("lib.packet.tcp")

SOLICITED_NODE = "ff02::1:fffe:a9fe"
"""Where solicitations for the service address go (RFC 4291, section 2.7.1)."""
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
"""Every host on the link."""

_OVERRIDE = 0b001
"""Flags of an advertisement: its MAC replaces a known one; not from a router, not solicited."""
_ON_LINK = 255
"""The hop limit of neighbour discovery: no router has passed it on (RFC 4861, section 7.1)."""
_DO_NOT_FRAGMENT = 0b010
_TTL = 64
_UNKNOWN_MAC = "00:00:00:00:00:00"
_MACS = 12
"""Bytes of a frame before its EtherType, or its tag."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection: MAC, IPv4 address, TCP port."""

    mac: str
    address: str
    port: int


def arp_request(mac: str, source: str) -> bytes:
    """A guest's question for the service address over IPv4 (RFC 826)."""
    return _frame(
        _ethernet(BROADCAST_MAC, mac, ETH_ARP),
        _arp(
            opcode=ARP_REQUEST,
            src_mac=mac,
            src_ip=source,
            dst_mac=_UNKNOWN_MAC,
            dst_ip=SERVICE_IPV4,
        ),
    )


def neighbor_solicitation(mac: str, source: str) -> bytes:
    """A guest's question for the service address over IPv6 (RFC 4861, section 4.3)."""
    option = _icmpv6.nd_option_sla(hw_src=mac)
    question = _icmpv6.nd_neighbor(dst=SERVICE_IPV6, option=option)
    return _frame(
        _ethernet(SOLICITED_NODE_MAC, mac, ETH_IPV6),
        _ipv6(src=source, dst=SOLICITED_NODE, nxt=ICMPV6, hop_limit=_ON_LINK),
        _icmpv6.icmpv6(type_=NEIGHBOR_SOLICITATION, data=question),
    )


def unsolicited_advertisement(mac: str, vlan: int = 0) -> bytes:
    """Replaces the MAC that guests hold for the service address (RFC 4861, section 7.2.6).

    In this VLAN, 0 being none.
    """
    option = _icmpv6.nd_option_tla(hw_src=mac)
    answer = _icmpv6.nd_neighbor(res=_OVERRIDE, dst=SERVICE_IPV6, option=option)
    frame = _frame(
        _ethernet(ALL_NODES_MAC, mac, ETH_IPV6),
        _ipv6(src=SERVICE_IPV6, dst=ALL_NODES, nxt=ICMPV6, hop_limit=_ON_LINK),
        _icmpv6.icmpv6(type_=NEIGHBOR_ADVERTISEMENT, data=answer),
    )
    return tagged(frame, vlan) if vlan else frame


def tagged(frame: bytes, vlan: int) -> bytes:
    """A frame with the tag of a VLAN (IEEE 802.1Q)."""
    return frame[:_MACS] + ETH_VLAN.to_bytes(2, "big") + vlan.to_bytes(2, "big") + frame[_MACS:]


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
    options = [_tcp.TCPOptionMaximumSegmentSize(max_segment)] if max_segment else None
    return _frame(
        _ethernet(destination.mac, source.mac, ETH_IPV4),
        _ipv4(
            src=source.address,
            dst=destination.address,
            proto=TCP,
            flags=_DO_NOT_FRAGMENT,
            ttl=_TTL,
        ),
        _tcp.tcp(
            src_port=source.port,
            dst_port=destination.port,
            seq=sequence,
            ack=acknowledged,
            bits=flags,
            window_size=window,
            option=options,
        ),
        payload=payload,
    )


def _frame(*headers: Any, payload: bytes = b"") -> bytes:
    packet = _packet.Packet(protocols=[*headers, payload])
    packet.serialize()
    return bytes(packet.data)
