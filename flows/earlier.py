"""The flows of earlier releases that this one does not have, so that it deletes them. Pure.

A flow is here as its key, for the port with ofport 2 if it serves one port, and that ofport, or 0
if it serves all. Numbers are those of the default options.
"""

from collections.abc import Iterator

from ovs_metadata.flows.family import ACK, FAMILIES, RST_WITHOUT_ACK, Family
from ovs_metadata.flows.tables import Table
from ovs_metadata.flows.values import FlowKey, Match
from ovs_metadata.host.address import SERVICE_PORT, port_address
from ovs_metadata.host.config import FlowOptions

_OPTIONS = FlowOptions()

LEARNED = 3
"""The table (an offset) of flows that the switch learned, up to generation 2."""

_PRIMARY, _USUAL, _LEARNED_PRIORITY, _REST = 300, 200, 100, 0
_PROXY_PORTS = (9697, 9698)


def earlier_flows() -> Iterator[tuple[FlowKey, int]]:
    """Flows that an earlier generation had and the pipeline has no more."""
    yield _key(LEARNED, _REST), 0
    for family in FAMILIES:
        yield from _of_both_generations(family)
        yield from _of_generation_1(family)
        yield from _of_generation_2(family)


def _key(table: int, priority: int, **fields: object) -> FlowKey:
    return FlowKey(_OPTIONS.table_base + table, priority, Match.of(**fields))  # type: ignore[arg-type]


def _of_both_generations(family: Family) -> Iterator[tuple[FlowKey, int]]:
    """The source was the port's; what was not its primary one had its way back learned."""
    address = port_address(2, family.version)
    its_own = {family.source: "10.0.0.5" if family.version == 4 else "fe80::1"}
    mac = "fa:16:3e:00:00:01"
    yield _key(Table.ToProxy, _PRIMARY, **family.tcp, in_port=2, eth_src=mac, **its_own), 2
    to_it = {**family.tcp, family.destination: address}
    yield _key(Table.ToInstance, _USUAL, **to_it), 2
    yield _key(LEARNED, _LEARNED_PRIORITY, **to_it, tcp_dst=0), 2
    yield _key(Table.FromProxy, _USUAL, **family.question_for(family.port_addresses)), 0


def _answer(family: Family) -> dict[str, object]:
    return {
        **family.tcp,
        family.source: family.service,
        family.destination: family.port_addresses,
    }


def _of_generation_1(family: Family) -> Iterator[tuple[FlowKey, int]]:
    request = {**family.tcp, family.destination: family.service, "tcp_dst": SERVICE_PORT}
    for fields in (request, request | {"tcp_src": 0}, family.question_for(family.service)):
        match = Match.of(in_port=2, vlan_vid=0, **fields)
        yield FlowKey(0, _OPTIONS.priority, match), 2
    for tcp_src in _PROXY_PORTS:
        yield _key(Table.FromProxy, _USUAL, **_answer(family), tcp_src=tcp_src), 0


def _of_generation_2(family: Family) -> Iterator[tuple[FlowKey, int]]:
    for tcp_src in _PROXY_PORTS:
        for flags in (ACK, RST_WITHOUT_ACK):
            fields = {**_answer(family), "tcp_src": tcp_src, "tcp_flags": flags}
            yield _key(Table.FromProxy, _USUAL, **fields), 0
