"""The packet fields the pipeline uses: names, widths and wire headers, in one table.

Names are OpenFlow's as Ryu spells them; the NXM headers and the names that ovs-ofctl prints are
those of ovs-fields(7). An NXM header is vendor class (16 bits), field (7), has-mask (1), length
of the value in bytes (8).
"""

import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `text` is its name in a match of ovs-ofctl, `nxm_name` in a move."""

    name: str
    bits: int
    vendor_class: int
    number: int
    text: str
    nxm_name: str

    @property
    def nxm(self) -> int:
        """NXM header without a mask."""
        return self.vendor_class << 16 | self.number << 9 | self.bits // 8


_OF, _NX = 0x0000, 0x0001
ERICSSON = 0x1000
"""Class of the two neighbour discovery fields that Open vSwitch has from Ericsson (since 2.11)."""

FIELDS = {
    each.name: each
    for each in (
        Field("in_port", 16, _OF, 0, "in_port", "NXM_OF_IN_PORT"),
        Field("eth_dst", 48, _OF, 1, "dl_dst", "NXM_OF_ETH_DST"),
        Field("eth_src", 48, _OF, 2, "dl_src", "NXM_OF_ETH_SRC"),
        Field("eth_type", 16, _OF, 3, "dl_type", "NXM_OF_ETH_TYPE"),
        Field("vlan_tci", 16, _OF, 4, "vlan_tci", "NXM_OF_VLAN_TCI"),
        Field("ip_proto", 8, _OF, 6, "nw_proto", "NXM_OF_IP_PROTO"),
        Field("ipv4_src", 32, _OF, 7, "nw_src", "NXM_OF_IP_SRC"),
        Field("ipv4_dst", 32, _OF, 8, "nw_dst", "NXM_OF_IP_DST"),
        Field("tcp_src", 16, _OF, 9, "tp_src", "NXM_OF_TCP_SRC"),
        Field("tcp_dst", 16, _OF, 10, "tp_dst", "NXM_OF_TCP_DST"),
        Field("arp_op", 16, _OF, 15, "arp_op", "NXM_OF_ARP_OP"),
        Field("arp_spa", 32, _OF, 16, "arp_spa", "NXM_OF_ARP_SPA"),
        Field("arp_tpa", 32, _OF, 17, "arp_tpa", "NXM_OF_ARP_TPA"),
        Field("arp_sha", 48, _NX, 17, "arp_sha", "NXM_NX_ARP_SHA"),
        Field("arp_tha", 48, _NX, 18, "arp_tha", "NXM_NX_ARP_THA"),
        Field("ipv6_src", 128, _NX, 19, "ipv6_src", "NXM_NX_IPV6_SRC"),
        Field("ipv6_dst", 128, _NX, 20, "ipv6_dst", "NXM_NX_IPV6_DST"),
        Field("icmpv6_type", 8, _NX, 21, "icmp_type", "NXM_NX_ICMPV6_TYPE"),
        Field("icmpv6_code", 8, _NX, 22, "icmp_code", "NXM_NX_ICMPV6_CODE"),
        Field("ipv6_nd_target", 128, _NX, 23, "nd_target", "NXM_NX_ND_TARGET"),
        Field("ipv6_nd_tll", 48, _NX, 25, "nd_tll", "NXM_NX_ND_TLL"),
        Field("nd_reserved", 32, ERICSSON, 1, "nd_reserved", "ERICOXM_OF_ICMPV6_ND_RESERVED"),
        Field(
            "nd_options_type",
            8,
            ERICSSON,
            2,
            "nd_options_type",
            "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE",
        ),
    )
}


WITHOUT_OXM = frozenset(
    each.name
    for each in FIELDS.values()
    if each.vendor_class == ERICSSON or each.name == "vlan_tci"
)
"""Fields that set_field names by their NXM header: OpenFlow 1.3 has no name for them."""


def to_bytes(field: Field, value: int | str) -> bytes:
    """A field's value in network byte order. Addresses are given as text, MACs with colons."""
    if isinstance(value, int):
        return value.to_bytes(field.bits // 8, "big")
    if field.bits == 48:
        return bytes.fromhex(value.replace(":", ""))
    return socket.inet_pton(socket.AF_INET6 if field.bits == 128 else socket.AF_INET, value)
