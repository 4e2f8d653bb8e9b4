"""Packets for ofproto/trace, and what its answer says. Pure.

The text is that of ovs-vswitchd(8), ofproto/trace: a line for each flow the packet meets, "table.
match, priority N, cookie 0x…", then its actions, indented; "Final flow:" shows the packet as it
left. Lines that are not understood are passed over, since every version has a few of its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from netaddr import EUI

from ovs_metadata.flows.family import (
    ARP_REQUEST,
    BROADCAST_MAC,
    NEIGHBOR_SOLICITATION,
    SOLICITED_NODE_MAC,
    Family,
)
from ovs_metadata.flows.pipeline import Port
from ovs_metadata.host.address import (
    GUESTS_MAC,
    METADATA_PORT_MAC,
    PROXY_PORT,
    SERVICE_PORT,
    port_address,
)

CLIENT_PORT = 9
"""TCP source port of the request: one that no client picks."""

ANY_IPV4 = "192.0.2.1"
"""Source of the request where no record says better: an address of documentation (RFC 5737)."""

_TEXT = {
    "ipv4_src": "nw_src",
    "ipv4_dst": "nw_dst",
    "ipv6_src": "ipv6_src",
    "ipv6_dst": "ipv6_dst",
}
"""How ofproto/trace writes the pipeline's address fields."""


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One flow the packet met. priority and cookie are None where no flow matched."""

    table: int
    match: str = ""
    priority: int | None = None
    cookie: int | None = None
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of a packet. `final` are the fields it had in the end, by ovs-ofctl's names."""

    steps: tuple[TraceStep, ...] = ()
    final: Mapping[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Ofports out of which flows sent it, without those that NORMAL chose."""
        words = [action.partition(":") for step in self.steps for action in step.actions]
        return tuple(int(to) for word, _, to in words if word == "output" and to.isdecimal())

    def does(self, action: str) -> bool:
        """Whether some flow had this action, such as NORMAL or CONTROLLER."""
        return any(
            re.split("[:(]", each)[0].upper() == action
            for step in self.steps
            for each in step.actions
        )

    @property
    def recirculates(self) -> bool:
        """Whether the trace ends where the datapath looks at the packet again (`Recirculate`)."""
        return bool(self.steps) and any(
            action.startswith("pop_mpls") for action in self.steps[-1].actions
        )

    def followed_by(self, rest: "Trace") -> "Trace":
        """This trace and that of the same packet from there on."""
        return Trace(self.steps + rest.steps, rest.final)

    def address(self, which: str) -> str | None:
        """An address it had in the end: `ipv4_src`, `ipv6_dst` and so on."""
        return self.final.get(_TEXT[which])

    @property
    def vlan(self) -> int:
        """The VLAN it was in in the end, 0 being none."""
        return int(self.final.get("dl_vlan", "0"))

    def port(self, which: str) -> int | None:
        """The TCP port it had in the end: `src` or `dst`."""
        text = self.final.get(f"tp_{which}", "")
        return int(text) if text.isdecimal() else None


def likely_source(mac: str, ipv4: str | None, family: Family) -> str:
    """The address that an instance most likely asks from.

    Over IPv6 it asks a link-local address, so it does so from its own: the one made of its MAC
    (RFC 4291, appendix A), unless it was configured otherwise.
    """
    return (ipv4 or ANY_IPV4) if family.version == 4 else str(EUI(mac).ipv6_link_local())


def request_packet(port: Port, source: str, family: Family) -> str:
    """The instance's first packet to the service address (a SYN)."""
    return _packet(
        family,
        in_port=port.ofport,
        **_tag(port),
        dl_src=port.mac,
        dl_dst=METADATA_PORT_MAC,
        source=source,
        destination=family.service,
        tp_src=CLIENT_PORT,
        tp_dst=SERVICE_PORT,
        tcp_flags="syn",
    )


def question_packet(port: Port, source: str, family: Family) -> str:
    """The instance's question for the service address's MAC: ARP, or neighbour solicitation."""
    words: dict[str, str | int] = {"in_port": port.ofport, **_tag(port), "dl_src": port.mac}
    if family.version == 4:
        kind = "arp"
        words |= {"dl_dst": BROADCAST_MAC, "arp_op": ARP_REQUEST, "arp_sha": port.mac}
        words |= {"arp_spa": source, "arp_tpa": family.service}
    else:
        kind = "icmp6"
        words |= {"dl_dst": SOLICITED_NODE_MAC, "ipv6_src": source, "nw_ttl": 255}
        words |= {"ipv6_dst": "ff02::1:fffe:a9fe", "icmpv6_type": NEIGHBOR_SOLICITATION}
        words |= {"icmpv6_code": 0, "nd_target": family.service, "nd_sll": port.mac}
    return ",".join([kind, *(f"{name}={value}" for name, value in words.items())])


def _tag(port: Port) -> dict[str, int]:
    return {"dl_vlan": port.vlan} if port.vlan else {}


def answer_packet(metadata_ofport: int, place: int, to: str, family: Family) -> str:
    """The proxy's first packet in answer to it (a SYN and ACK), to the port at a place.

    Raises:
        ValueError: no instance can have its ofport.
    """
    return _packet(
        family,
        in_port=metadata_ofport,
        dl_src=METADATA_PORT_MAC,
        dl_dst=GUESTS_MAC,
        source=port_address(place, family.version),
        destination=to,
        tp_src=PROXY_PORT,
        tp_dst=CLIENT_PORT,
        tcp_flags="syn|ack",
    )


def _packet(family: Family, *, source: str, destination: str, **fields: str | int) -> str:
    addresses = {_TEXT[family.source]: source, _TEXT[family.destination]: destination}
    words = [f"{name}={value}" for name, value in (fields | addresses | {"nw_ttl": 64}).items()]
    return ",".join(["tcp" if family.version == 4 else "tcp6", *words])


_STEP = re.compile(r"\s*(?P<table>\d+)\. (?P<text>.*)")
_FLOW = re.compile(
    r"(?:(?P<match>\S.*?), )?priority (?P<priority>\d+)(?:, cookie (?P<cookie>0x[0-9a-f]+))?"
)
_SIDE_REMARKS = ("->", ">>", "<<")
"""How lines begin that ofproto/trace adds to actions."""


def parse(text: str) -> Trace:
    """Read what ofproto/trace printed."""
    steps: list[TraceStep] = []
    flow: Mapping[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(": ")
        step = _STEP.match(line)
        if colon and name in {"Flow", "Final flow"}:
            flow = flow if value == "unchanged" else _fields(value)
        elif step:
            steps.append(_step(int(step["table"]), step["text"]))
        elif steps and line.startswith(" ") and not line.lstrip().startswith(_SIDE_REMARKS):
            last = steps.pop()
            steps.append(replace(last, actions=(*last.actions, line.strip())))
    return Trace(tuple(steps), flow)


def _step(table: int, text: str) -> TraceStep:
    flow = _FLOW.fullmatch(text.strip())
    if not flow:
        return TraceStep(table)
    cookie = int(flow["cookie"], 16) if flow["cookie"] else 0
    return TraceStep(table, flow["match"] or "", int(flow["priority"]), cookie)


def _fields(text: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in text.split(","))
    return {name: value for name, equals, value in pairs if equals}
