"""What differs between IPv4 and IPv6, in one value each, so that the pipeline is written once.

The one thing that differs in kind is how an address is turned into a MAC: ARP (RFC 826), and
neighbour discovery (RFC 4861).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from netaddr import IPNetwork

from ovs_metadata.flows.values import Action, MatchValue, Move, OutputInPort, SetField
from ovs_metadata.host.address import (
    METADATA_PORT_MAC,
    PORT_NETWORK_IPV4,
    PORT_NETWORK_IPV6,
    SERVICE_IPV4,
    SERVICE_IPV6,
    SERVICE_PORT,
    SUBPORT_NETWORK_IPV4,
    SUBPORT_NETWORK_IPV6,
    IpVersion,
)

ETH_IPV4, ETH_IPV6, ETH_ARP, ETH_VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
MPLS = 0x8847
TCP, ICMPV6 = 6, 58

NO_VLAN = (0, 0x0FFF)
"""vlan_vid, with its mask, of a frame that is in no VLAN: without a tag, or with the tag of VLAN 0,
which carries a priority alone (IEEE 802.1Q, priority-tagged)."""
REMOVE_TAG = SetField("vlan_tci", 0)
_TAGGED = 0x1000
"""What vlan_vid and vlan_tci have besides the VLAN, if there is a tag (OFPVID_PRESENT)."""


def in_vlan(vlan: int) -> MatchValue:
    """vlan_vid of a frame in this VLAN; 0: in none."""
    return _TAGGED | vlan if vlan else NO_VLAN


def add_tag(vlan: int) -> SetField:
    """The action that tags a frame without a tag."""
    return SetField("vlan_tci", _TAGGED | vlan)


ACK = (0x10, 0x10)
RST_WITHOUT_ACK = (0x04, 0x14)
"""tcp_flags, each with its mask."""
BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
SOLICITED_NODE_MAC = "33:33:ff:fe:a9:fe"
"""Where solicitations for the service address go: to ff02::1:fffe:a9fe (RFC 4291, RFC 2464)."""
ARP_REQUEST, ARP_REPLY = 1, 2
NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT = 135, 136
SOLICITED_OVERRIDE = 0x60000000
"""Flags of a neighbour advertisement: it was asked for, it replaces what was known; no router."""
TARGET_LINK_LAYER_ADDRESS = 2
"""Type of the option that holds the MAC. That of a solicitation, its sender's MAC, is 1."""


@dataclass(frozen=True, slots=True)
class Family:
    """One IP version, as the pipeline sees it.

    `port_addresses` is the network of all port addresses, with its mask, `sub_port_addresses` that
    of sub-ports' own. `question` is what asks
    for the MAC of an address, in words, `question_type` its eth_type; `question_for` are the fields
    that match it, `answer` the actions that turn it into an answer with the service address's MAC,
    and `answer_is_sent` whether they send it, too; if not, it has to go on to table Advertise.
    `probe` are further fields of the question asked by who wants the address for himself; no fields
    when that needs no care.

    What a hook matches costs all other traffic: without a prefix trie for a field, Open vSwitch
    makes a datapath flow for each value of it that passes. It looks at MACs before addresses. So a
    hook names the MAC that the packet is sent to: `question_to` are those of questions,
    `request_to` is that of a request, if it can be no other.
    """

    version: IpVersion
    eth_type: int
    source: str
    destination: str
    service: str
    port_addresses: tuple[str, str]
    sub_port_addresses: tuple[str, str]
    question: str
    question_type: int
    question_for: Callable[[MatchValue], Mapping[str, MatchValue]]
    question_to: tuple[str, str]
    answer: tuple[Action, ...]
    answer_is_sent: bool
    request_to: Mapping[str, MatchValue] = field(default_factory=dict)
    probe: Mapping[str, MatchValue] = field(default_factory=dict)

    @property
    def tcp(self) -> dict[str, MatchValue]:
        """The fields that match TCP."""
        return {"eth_type": self.eth_type, "ip_proto": TCP}

    @property
    def request(self) -> dict[str, MatchValue]:
        """The fields that match a request for the service address."""
        return {
            **self.tcp,
            **self.request_to,
            self.destination: self.service,
            "tcp_dst": SERVICE_PORT,
        }


def _with_mask(network: str) -> tuple[str, str]:
    parsed = IPNetwork(network)
    return str(parsed.network), str(parsed.netmask)


def _arp_request(target: MatchValue) -> Mapping[str, MatchValue]:
    return {"eth_type": ETH_ARP, "arp_op": ARP_REQUEST, "arp_tpa": target}


_ANSWER_ARP = (
    Move("eth_src", "eth_dst"),
    SetField("eth_src", METADATA_PORT_MAC),
    SetField("arp_op", ARP_REPLY),
    Move("arp_sha", "arp_tha"),
    SetField("arp_sha", METADATA_PORT_MAC),
    Move("arp_spa", "arp_tpa"),
    SetField("arp_spa", SERVICE_IPV4),
    OutputInPort(),
)


def _solicitation(target: MatchValue) -> Mapping[str, MatchValue]:
    return {
        "eth_type": ETH_IPV6,
        "ip_proto": ICMPV6,
        "icmpv6_type": NEIGHBOR_SOLICITATION,
        "icmpv6_code": 0,
        "ipv6_nd_target": target,
    }


_ADVERTISE = (
    Move("eth_src", "eth_dst"),
    SetField("eth_src", METADATA_PORT_MAC),
    Move("ipv6_src", "ipv6_dst"),
    SetField("ipv6_src", SERVICE_IPV6),
    SetField("nd_reserved", SOLICITED_OVERRIDE),
    SetField("nd_options_type", TARGET_LINK_LAYER_ADDRESS),
    SetField("icmpv6_type", NEIGHBOR_ADVERTISEMENT),
)
"""All of an advertisement but the MAC in its option, and but for sending it.

The solicitation's option with its sender's MAC becomes the one for the target's. That has a field
for the MAC only in what is matched as an advertisement, which takes another table. A solicitation
without the option gets an advertisement without one, as a unicast one may.
"""

ADVERTISEMENT: Mapping[str, MatchValue] = {
    "eth_type": ETH_IPV6,
    "ip_proto": ICMPV6,
    "icmpv6_type": NEIGHBOR_ADVERTISEMENT,
    "icmpv6_code": 0,
}
FINISH_ADVERTISEMENT = (Move("eth_src", "ipv6_nd_tll"), OutputInPort())
"""What is left to do in the other table. By then the sender is the one that has the address."""


IPV4 = Family(
    version=4,
    eth_type=ETH_IPV4,
    source="ipv4_src",
    destination="ipv4_dst",
    service=SERVICE_IPV4,
    port_addresses=_with_mask(PORT_NETWORK_IPV4),
    sub_port_addresses=_with_mask(SUBPORT_NETWORK_IPV4),
    question="an ARP request",
    question_type=ETH_ARP,
    question_for=_arp_request,
    question_to=(BROADCAST_MAC, METADATA_PORT_MAC),
    answer=_ANSWER_ARP,
    answer_is_sent=True,
)
IPV6 = Family(
    version=6,
    eth_type=ETH_IPV6,
    source="ipv6_src",
    destination="ipv6_dst",
    service=SERVICE_IPV6,
    port_addresses=_with_mask(PORT_NETWORK_IPV6),
    sub_port_addresses=_with_mask(SUBPORT_NETWORK_IPV6),
    question="a neighbour solicitation",
    question_type=ETH_IPV6,
    question_for=_solicitation,
    question_to=(SOLICITED_NODE_MAC, METADATA_PORT_MAC),
    # Over IPv4 a guest may well send it to its router. A link-local address is never routed.
    request_to={"eth_dst": METADATA_PORT_MAC},
    answer=_ADVERTISE,
    answer_is_sent=False,
    # Duplicate address detection asks from the unspecified address, which gets no answer.
    probe={"ipv6_src": "::"},
)
FAMILIES = (IPV4, IPV6)
