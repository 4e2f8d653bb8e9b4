"""The pipeline: from ports to flows. Pure functions on values; docs/pipeline.md explains it.

A request of an instance goes 0 → ToProxy → metadata port. The answer goes 0 → FromProxy → Learned,
and from there, when no learned flow wants it, → ToInstance. ARP requests for the service address
go 0 → Responder and back.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ovs_metadata.flows.tables import Priority, Table, cookie
from ovs_metadata.flows.values import (
    Action,
    Flow,
    FlowKey,
    GotoTable,
    Learn,
    LoadField,
    Match,
    MatchConstant,
    MatchField,
    MatchValue,
    Move,
    Output,
    OutputField,
    OutputInPort,
    SetField,
)
from ovs_metadata.host.address import (
    METADATA_PORT_MAC,
    PORT_ADDRESS_MAC,
    PROXY_PORT,
    SERVICE_IPV4,
    SERVICE_PORT,
    port_address,
)
from ovs_metadata.host.config import FlowOptions

ETH_IPV4 = 0x0800
ETH_ARP = 0x0806
TCP = 6
ARP_REQUEST, ARP_REPLY = 1, 2
UNTAGGED = 0
"""vlan_vid of a frame without a VLAN tag (OFPVID_NONE)."""
PORT_ADDRESSES = ("169.254.0.0", "255.255.0.0")


@dataclass(frozen=True, slots=True)
class Port:
    """What the pipeline needs to know of an instance's port. `ipv4` is its primary address."""

    ofport: int
    mac: str
    ipv4: str | None = None


def pipeline(
    options: FlowOptions, metadata_ofport: int | None, ports: Iterable[Port]
) -> Mapping[FlowKey, Flow]:
    """All flows that should stand in the switch; none while there is no metadata port."""
    if metadata_ofport is None:
        return {}
    flows = list(_shared_flows(options, metadata_ofport))
    for port in ports:
        flows += _port_flows(options, metadata_ofport, port)
    return {flow.key: flow for flow in flows}


@lru_cache(maxsize=4)
def _shared_flows(options: FlowOptions, metadata_ofport: int) -> tuple[Flow, ...]:
    def flow(table: Table, match: Match, *actions: Action, note: str, priority: Priority) -> Flow:
        key = FlowKey(options.table_base + table, priority, match)
        return Flow(key, actions, cookie(), note)

    def rest(table: Table, *actions: Action, note: str = "anything else: dropped") -> Flow:
        return flow(table, Match.of(), *actions, note=note, priority=Priority.Rest)

    return (
        Flow(
            FlowKey(0, options.priority, Match.of(in_port=metadata_ofport)),
            (GotoTable(options.table_base + Table.FromProxy),),
            cookie(),
            "hook: whatever leaves the metadata port",
        ),
        rest(Table.ToProxy),
        flow(
            Table.FromProxy,
            Match.of(eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=PORT_ADDRESSES),
            *_answer_arp(PORT_ADDRESS_MAC),
            note="answers the proxy's ARP request for a port address",
            priority=Priority.Other,
        ),
        flow(
            Table.FromProxy,
            Match.of(
                eth_type=ETH_IPV4,
                ip_proto=TCP,
                ipv4_src=SERVICE_IPV4,
                ipv4_dst=PORT_ADDRESSES,
                tcp_src=PROXY_PORT,
            ),
            SetField("tcp_src", SERVICE_PORT),
            GotoTable(options.table_base + Table.Learned),
            note="an answer of the proxy: from port 80 again",
            priority=Priority.Other,
        ),
        rest(Table.FromProxy),
        flow(
            Table.Responder,
            Match.of(eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=SERVICE_IPV4),
            *_answer_arp(METADATA_PORT_MAC),
            note="answers an instance's ARP request for the service address",
            priority=Priority.Other,
        ),
        rest(Table.Responder),
        rest(
            Table.Learned,
            GotoTable(options.table_base + Table.ToInstance),
            note="no learned flow: to the primary address",
        ),
        rest(Table.ToInstance),
    )


@lru_cache(maxsize=65536)
def _port_flows(options: FlowOptions, metadata_ofport: int, port: Port) -> tuple[Flow, ...]:
    return tuple(_build_port_flows(options, metadata_ofport, port))


def _build_port_flows(options: FlowOptions, metadata_ofport: int, port: Port) -> Iterator[Flow]:
    mine = cookie(port.ofport)
    address = port_address(port.ofport)

    def hook(to: Table, note: str, **fields: MatchValue) -> Flow:
        match = Match.of(in_port=port.ofport, vlan_vid=UNTAGGED, **fields)
        key = FlowKey(0, options.priority, match)
        return Flow(key, (GotoTable(options.table_base + to),), mine, note)

    yield hook(
        Table.ToProxy,
        "hook: a request for the service address",
        eth_type=ETH_IPV4,
        ip_proto=TCP,
        ipv4_dst=SERVICE_IPV4,
        tcp_dst=SERVICE_PORT,
    )
    yield hook(
        Table.Responder,
        "hook: an ARP request for the service address",
        eth_type=ETH_ARP,
        arp_op=ARP_REQUEST,
        arp_tpa=SERVICE_IPV4,
    )
    from_port = {"in_port": port.ofport, "eth_type": ETH_IPV4, "ip_proto": TCP}
    to_proxy = (
        SetField("eth_src", PORT_ADDRESS_MAC),
        SetField("eth_dst", METADATA_PORT_MAC),
        SetField("ipv4_src", address),
        SetField("tcp_dst", PROXY_PORT),
        Output(metadata_ofport),
    )
    yield Flow(
        FlowKey(options.table_base + Table.ToProxy, Priority.Other, Match.of(**from_port)),
        (_learn_way_back(options, mine, address), *to_proxy),
        mine,
        "from any other source: to the proxy, and learn the way back",
    )
    if port.ipv4 is None:
        return
    yield Flow(
        FlowKey(
            options.table_base + Table.ToProxy,
            Priority.Primary,
            Match.of(**from_port, eth_src=port.mac, ipv4_src=port.ipv4),
        ),
        to_proxy,
        mine,
        "from the primary address: to the proxy",
    )
    yield Flow(
        FlowKey(
            options.table_base + Table.ToInstance,
            Priority.Other,
            Match.of(eth_type=ETH_IPV4, ip_proto=TCP, ipv4_dst=address),
        ),
        (
            SetField("eth_dst", port.mac),
            SetField("ipv4_dst", port.ipv4),
            Output(port.ofport),
        ),
        mine,
        "to the instance's primary address",
    )


def _answer_arp(mac: str) -> tuple[Action, ...]:
    """Turn an ARP request into the reply that `mac` has the address asked for (RFC 826).

    ARP's two addresses change places by way of reg0, a scratch register nobody reads.
    """
    return (
        Move("eth_src", "eth_dst"),
        SetField("eth_src", mac),
        SetField("arp_op", ARP_REPLY),
        Move("arp_sha", "arp_tha"),
        SetField("arp_sha", mac),
        Move("arp_tpa", "reg0"),
        Move("arp_spa", "arp_tpa"),
        Move("reg0", "arp_spa"),
        OutputInPort(),
    )


def _learn_way_back(options: FlowOptions, mine: int, address: str) -> Learn:
    """The return flow for one TCP connection from a source that no record tells us of.

    It runs before the source is rewritten, so the packet still has what the instance sent.
    """
    return Learn(
        table=options.table_base + Table.Learned,
        priority=Priority.Learned,
        cookie=mine,
        idle_timeout=options.learned_idle_timeout,
        limit=options.learned_limit,
        specs=(
            MatchConstant("eth_type", ETH_IPV4),
            MatchConstant("ip_proto", TCP),
            MatchConstant("ipv4_dst", address),
            MatchField("tcp_dst", "tcp_src"),
            LoadField("ipv4_dst", "ipv4_src"),
            LoadField("eth_dst", "eth_src"),
            OutputField("in_port"),
        ),
    )
