"""The pipeline: from ports to flows. Pure functions on values; docs/flows.md explains it.

A request of an instance goes 0 → ToProxy → metadata port. The answer goes 0 → FromProxy, and from
there → ToInstance if it is for the primary address, → Learned if it is for another. Questions for
the service address's MAC (ARP, neighbour solicitation) go 0 → Responder and back.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from netaddr import EUI

from ovs_metadata.flows.family import (
    ACK,
    ADVERTISEMENT,
    FAMILIES,
    FINISH_ADVERTISEMENT,
    NO_VLAN,
    REMOVE_TAG,
    RST_WITHOUT_ACK,
    TCP,
    Family,
)
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
    Output,
    OutputField,
    SetField,
)
from ovs_metadata.host.address import (
    METADATA_PORT_MAC,
    PORT_ADDRESS_MAC,
    PROXY_PORT,
    PROXY_PORT_OF_OTHERS,
    SERVICE_PORT,
    port_address,
)
from ovs_metadata.host.config import FlowOptions


@dataclass(frozen=True, slots=True)
class Port:
    """What the pipeline needs to know of an instance's port. `ipv4` is its primary address."""

    ofport: int
    mac: str
    ipv4: str | None = None

    def primary(self, family: Family) -> str | None:
        """The source address that needs no learned flow.

        Over IPv6 a guest asks a link-local address, so its own link-local address is the one it
        uses: the one made of its MAC (RFC 4291, appendix A), unless it was told otherwise.
        """
        return self.ipv4 if family.version == 4 else str(EUI(self.mac).ipv6_link_local())


_Made = tuple[FlowOptions, int, Port]
"""All that a port's flows are made of."""


class Pipeline:
    """Makes the flows of one host, again and again.

    Of many ports few change at a time: a port's flows are made once, and kept for the next time.
    """

    def __init__(self) -> None:
        self._kept: dict[_Made, Mapping[FlowKey, Flow]] = {}

    def flows(
        self, options: FlowOptions, metadata_ofport: int | None, ports: Iterable[Port]
    ) -> Mapping[FlowKey, Flow]:
        """All flows that should stand in the switch; none while there is no metadata port.

        Nor are there any for a port that has the metadata port's number, as if for a moment two had
        it.
        """
        if metadata_ofport is None:
            return {}
        before, self._kept = self._kept, {}
        flows = {flow.key: flow for flow in _shared_flows(options, metadata_ofport)}
        for port in ports:
            if port.ofport != metadata_ofport:
                made_of = (options, metadata_ofport, port)
                of_port = before.get(made_of) or _port_flows(*made_of)
                self._kept[made_of] = of_port
                flows.update(of_port)
        return flows


def pipeline(
    options: FlowOptions, metadata_ofport: int | None, ports: Iterable[Port]
) -> Mapping[FlowKey, Flow]:
    """The flows of a host that is looked at once; see `Pipeline.flows`."""
    return Pipeline().flows(options, metadata_ofport, ports)


@lru_cache(maxsize=4)
def _shared_flows(options: FlowOptions, metadata_ofport: int) -> tuple[Flow, ...]:
    def flow(
        table: Table, match: Match, *actions: Action, note: str, priority: Priority = Priority.Other
    ) -> Flow:
        key = FlowKey(options.table_base + table, priority, match)
        return Flow(key, actions, cookie(), note)

    def rest(table: Table, *actions: Action, note: str = "anything else: dropped") -> Flow:
        return flow(table, Match.of(), *actions, note=note, priority=Priority.Rest)

    def answer(family: Family, mac: str) -> tuple[Action, ...]:
        if family.answer_is_sent:
            return family.answer(mac)
        return (*family.answer(mac), GotoTable(options.table_base + Table.Advertise))

    def of_family(family: Family) -> Iterator[Flow]:
        what = family.question
        yield flow(
            Table.FromProxy,
            Match.of(**family.question_for(family.port_addresses)),
            *answer(family, PORT_ADDRESS_MAC),
            note=f"answers {what} of the proxy for a port address",
        )
        for proxy_port, table, whom in (
            (PROXY_PORT, Table.ToInstance, "the primary address"),
            (PROXY_PORT_OF_OTHERS, Table.Learned, "any other address"),
        ):
            for flags, end in ((ACK, ""), (RST_WITHOUT_ACK, ", its reset")):
                yield flow(
                    Table.FromProxy,
                    Match.of(
                        **family.tcp,
                        **{family.source: family.service},
                        **{family.destination: family.port_addresses},
                        tcp_src=proxy_port,
                        tcp_flags=flags,
                    ),
                    SetField("tcp_src", SERVICE_PORT),
                    GotoTable(options.table_base + table),
                    note=f"the proxy's answer to {whom}: from port 80 again{end}",
                )
        yield flow(
            Table.Responder,
            Match.of(**family.question_for(family.service)),
            REMOVE_TAG,
            *answer(family, METADATA_PORT_MAC),
            note=f"answers {what} of an instance for the service address",
        )
        if family.probe:
            yield flow(
                Table.Responder,
                Match.of(**family.question_for(family.service), **family.probe),
                note="an instance asks whether the service address is free: no answer",
                priority=Priority.Primary,
            )

    return (
        Flow(
            FlowKey(0, options.priority, Match.of(in_port=metadata_ofport)),
            (GotoTable(options.table_base + Table.FromProxy),),
            cookie(),
            "hook: whatever leaves the metadata port",
        ),
        rest(Table.ToProxy),
        rest(Table.FromProxy),
        rest(Table.Responder),
        rest(Table.Learned, note="no learned flow, it has aged out or was one too many: dropped"),
        rest(Table.ToInstance),
        flow(
            Table.Advertise,
            Match.of(**ADVERTISEMENT),
            *FINISH_ADVERTISEMENT,
            note="sends a neighbour advertisement, with its sender's MAC",
        ),
        rest(Table.Advertise),
        *(flow for family in FAMILIES for flow in of_family(family)),
    )


def _port_flows(options: FlowOptions, metadata_ofport: int, port: Port) -> Mapping[FlowKey, Flow]:
    """By key, for a mapping is put into another without asking for any hash again."""
    return {
        flow.key: flow
        for family in FAMILIES
        for flow in _flows_of_family(options, metadata_ofport, port, family)
    }


def _flows_of_family(
    options: FlowOptions, metadata_ofport: int, port: Port, family: Family
) -> Iterator[Flow]:
    mine = cookie(port.ofport)
    address = port_address(port.ofport, family.version)

    def hook(to: Table, note: str, fields: Mapping[str, MatchValue]) -> Flow:
        match = Match.of(in_port=port.ofport, vlan_vid=NO_VLAN, **fields)
        key = FlowKey(0, options.priority, match)
        return Flow(key, (GotoTable(options.table_base + to),), mine, note)

    yield hook(
        Table.ToProxy,
        "hook: a request for the service address",
        family.request,
    )
    for mac in family.question_to:
        yield hook(
            Table.Responder,
            f"hook: {family.question} for the service address",
            {"eth_dst": mac, **family.question_for(family.service)},
        )
    from_port = {"in_port": port.ofport, **family.tcp}

    def to_proxy(proxy_port: int) -> tuple[Action, ...]:
        return (
            REMOVE_TAG,
            SetField("eth_src", PORT_ADDRESS_MAC),
            SetField("eth_dst", METADATA_PORT_MAC),
            SetField(family.source, address),
            SetField("tcp_dst", proxy_port),
            Output(metadata_ofport),
        )

    yield Flow(
        FlowKey(options.table_base + Table.ToProxy, Priority.Other, Match.of(**from_port)),
        (_learn_way_back(options, mine, address, family), *to_proxy(PROXY_PORT_OF_OTHERS)),
        mine,
        "from any other source: to the proxy, and learn the way back",
    )
    primary = port.primary(family)
    if primary is None:
        return
    yield Flow(
        FlowKey(
            options.table_base + Table.ToProxy,
            Priority.Primary,
            Match.of(**from_port, eth_src=port.mac, **{family.source: primary}),
        ),
        to_proxy(PROXY_PORT),
        mine,
        "from the primary address: to the proxy",
    )
    yield Flow(
        FlowKey(
            options.table_base + Table.ToInstance,
            Priority.Other,
            Match.of(**family.tcp, **{family.destination: address}),
        ),
        (
            SetField("eth_dst", port.mac),
            SetField(family.destination, primary),
            Output(port.ofport),
        ),
        mine,
        "to the instance's primary address",
    )


def _learn_way_back(options: FlowOptions, mine: int, address: str, family: Family) -> Learn:
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
            MatchConstant("eth_type", family.eth_type),
            MatchConstant("ip_proto", TCP),
            MatchConstant(family.destination, address),
            MatchField("tcp_dst", "tcp_src"),
            LoadField(family.destination, family.source),
            LoadField("eth_dst", "eth_src"),
            OutputField("in_port"),
        ),
    )
