"""The pipeline: from ports to flows. Pure functions on values; docs/flows.md explains it.

A request of an instance goes 0 → ToProxy → metadata port, and the answer 0 → FromProxy → ToInstance
→ the instance's port. Questions for the service address's MAC (ARP, neighbour solicitation) go 0 →
Responder and back.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ovs_metadata.flows.family import (
    ACK,
    ADVERTISEMENT,
    FAMILIES,
    FINISH_ADVERTISEMENT,
    REMOVE_TAG,
    RST_WITHOUT_ACK,
    Family,
    add_tag,
    in_vlan,
)
from ovs_metadata.flows.meters import meter_number, question_meter_number
from ovs_metadata.flows.tables import Priority, Table, cookie
from ovs_metadata.flows.values import (
    Action,
    ApplyMeter,
    Flow,
    FlowKey,
    GotoTable,
    Match,
    MatchValue,
    Output,
    Recirculate,
    RemoveOuterTag,
    SetField,
    SetHopLimit,
)
from ovs_metadata.host.address import (
    METADATA_PORT_MAC,
    PROXY_PORT,
    SERVICE_PORT,
    place_of,
    port_address,
)
from ovs_metadata.host.config import FlowOptions


@dataclass(frozen=True, slots=True)
class Port:
    """What the pipeline needs to know of an instance's port.

    metered: whether its interface has its meters, which a sub-port shares with its parent. vlan:
    that of a sub-port without an interface of its own.
    """

    ofport: int
    mac: str
    metered: bool = True
    hop_limit: int = 0
    """Of responses to it; 0: as they are."""
    vlan: int = 0


def pipeline(
    options: FlowOptions, metadata_ofport: int | None, ports: Iterable[Port]
) -> Mapping[FlowKey, Flow]:
    """All flows that the switch should have; none while there is no metadata port.

    There are none either for a port with the metadata port's number: for a moment OVSDB may show
    two ports with one number. Otherwise each port has its own number, or VLAN of it.
    """
    if metadata_ofport is None:
        return {}
    flows = [*shared_flows(options, metadata_ofport)]
    for port in ports:
        if port.ofport != metadata_ofport:
            flows += port_flows(options, metadata_ofport, port)
    return {flow.key: flow for flow in flows}


@lru_cache(maxsize=4)
def shared_flows(options: FlowOptions, metadata_ofport: int) -> tuple[Flow, ...]:
    """The flows that all ports need."""

    def flow(
        table: Table, match: Match, *actions: Action, note: str, priority: Priority = Priority.Usual
    ) -> Flow:
        key = FlowKey(options.table_base + table, priority, match)
        return Flow(key, actions, cookie(), note)

    def goto(table: Table) -> GotoTable:
        return GotoTable(options.table_base + table)

    def of_family(family: Family) -> Iterator[Flow]:
        for source, kind in (
            (family.port_addresses, "port"),
            (family.sub_port_addresses, "sub-port"),
        ):
            for flags, what in ((ACK, "answer"), (RST_WITHOUT_ACK, "reset")):
                yield flow(
                    Table.FromProxy,
                    Match.of(
                        **family.tcp,
                        **{family.source: source},
                        tcp_src=PROXY_PORT,
                        tcp_flags=flags,
                    ),
                    SetField("tcp_src", SERVICE_PORT),
                    goto(Table.ToInstance),
                    note=f"the proxy's {what} to any {kind}: from port 80 again",
                )
        yield flow(
            Table.Responder,
            Match.of(**family.question_for(family.service)),
            *family.answer,
            *(() if family.answer_is_sent else (goto(Table.Advertise),)),
            note=f"answers {family.question} of an instance for the service address",
        )
        if family.probe:
            yield flow(
                Table.Responder,
                Match.of(**family.question_for(family.service), **family.probe),
                note="an instance asks whether the service address is free: no answer",
                priority=Priority.Exception,
            )

    return (
        Flow(
            FlowKey(0, options.priority, Match.of(in_port=metadata_ofport)),
            (goto(Table.FromProxy),),
            cookie(),
            "hook: whatever leaves the metadata port",
        ),
        flow(
            Table.Advertise,
            Match.of(**ADVERTISEMENT),
            *FINISH_ADVERTISEMENT,
            note="sends a neighbour advertisement, with its sender's MAC",
        ),
        *(flow for family in FAMILIES for flow in of_family(family)),
        *(
            flow(table, Match.of(), note="anything else: dropped", priority=Priority.Rest)
            for table in Table
        ),
    )


def port_flows(options: FlowOptions, metadata_ofport: int, port: Port) -> list[Flow]:
    """The flows of one port."""
    return [
        flow
        for family in FAMILIES
        for flow in _flows_of_family(options, metadata_ofport, port, family)
    ]


def _flows_of_family(
    options: FlowOptions, metadata_ofport: int, port: Port, family: Family
) -> Iterator[Flow]:
    place = place_of(port.ofport, port.vlan)
    mine = cookie(place)
    address = port_address(place, family.version)
    in_its_vlan = {"vlan_vid": in_vlan(port.vlan)} if port.vlan else {}
    untag: Action = RemoveOuterTag() if port.vlan else REMOVE_TAG

    def hook(
        to: Table, note: str, fields: Mapping[str, MatchValue], before: tuple[Action, ...] = ()
    ) -> Flow:
        match = Match.of(in_port=port.ofport, vlan_vid=in_vlan(port.vlan), **fields)
        key = FlowKey(0, options.priority, match)
        return Flow(key, (*before, GotoTable(options.table_base + to)), mine, note)

    yield hook(
        Table.ToProxy,
        "hook: a request for the service address",
        family.request,
    )
    # An answer goes to the sender, so Open vSwitch makes a datapath flow for each sender. It makes
    # them only of questions that have passed the meter. The answer to a sub-port has its tag, too.
    meter, recirculate = (
        ApplyMeter(question_meter_number(port.ofport)),
        Recirculate(family.question_type),
    )
    before_answer = (
        *((meter,) if port.metered else ()),
        *(() if port.vlan else (REMOVE_TAG,)),
        *((recirculate,) if port.metered else ()),
    )
    for mac in family.question_to:
        yield hook(
            Table.Responder,
            f"hook: {family.question} for the service address",
            {"eth_dst": mac, **family.question_for(family.service)},
            before_answer,
        )
    yield Flow(
        FlowKey(
            options.table_base + Table.ToProxy,
            Priority.Exception if port.vlan else Priority.Usual,
            Match.of(in_port=port.ofport, **in_its_vlan, **family.tcp),
        ),
        (
            *((ApplyMeter(meter_number(port.ofport)),) if port.metered else ()),
            untag,
            SetField("eth_dst", METADATA_PORT_MAC),
            SetField(family.destination, address),
            SetField("tcp_dst", PROXY_PORT),
            Output(metadata_ofport),
        ),
        mine,
        "from whatever source: to the proxy, at the port's address",
    )
    yield Flow(
        FlowKey(
            options.table_base + Table.ToInstance,
            Priority.Usual,
            Match.of(**family.tcp, **{family.source: address}),
        ),
        (
            SetField("eth_dst", port.mac),
            SetField(family.source, family.service),
            *([SetHopLimit(port.hop_limit)] if port.hop_limit else []),
            *([add_tag(port.vlan)] if port.vlan else []),
            Output(port.ofport),
        ),
        mine,
        "from the port's address: to the instance, from the service address",
    )
