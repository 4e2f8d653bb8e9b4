"""Which flows in a switch are ours. Pure, and the one place that decides.

A bridge is shared, and cookies of others are random numbers: sooner or later one begins as ours do.
So a cookie alone says nothing. A flow is ours if its table and priority are ours, it matches what a
flow of ours matches there, and its cookie is the one that such a flow has, down to the ofport.
Whatever sends, deletes, reads or shows flows asks here.
"""

from collections.abc import Iterator, Mapping
from functools import cache

from ovs_metadata.flows.family import FAMILIES
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import Priority, Table, has_our_cookie, ofport_of
from ovs_metadata.flows.values import Flow, FlowKey, Learn, Match, MatchConstant, MatchField
from ovs_metadata.host.address import (
    PROXY_PORT,
    PROXY_PORT_OF_OTHERS,
    SERVICE_PORT,
    port_address,
    why_unservable,
)
from ovs_metadata.host.config import FlowOptions

_OFPORT = "the ofport in the cookie"
_PORT_ADDRESS = "the port address of that ofport"
_ANY = "any one value"

_OF_THE_GUEST = {"eth_src", "ipv4_src", "ipv6_src", "tcp_src"}
"""What flows of a port match of its record, or of its guest's connection."""

Shape = tuple[int | None, int | None, frozenset[tuple[str, object]]]
"""What all flows that do the same for different ports have in common: table, priority and match.

Our tables are numbered from the base; None is table 0. The priority of a hook is the difference to
the configured one; None for the hooks of instances' ports, which are ours at any priority, for they
have to go after the option was changed.
"""


def _earlier() -> Iterator[tuple[FlowKey, int]]:
    """Flows for ofport 2 that an earlier generation had and the pipeline has no more."""
    options = FlowOptions()
    for family in FAMILIES:
        request = {**family.tcp, family.destination: family.service, "tcp_dst": SERVICE_PORT}
        for fields in (request, request | {"tcp_src": 0}, family.question_for(family.service)):
            match = Match.of(in_port=2, vlan_vid=0, **fields)
            yield FlowKey(0, options.priority, match), 2
        for tcp_src in (PROXY_PORT, PROXY_PORT_OF_OTHERS):
            match = Match.of(
                **family.tcp,
                **{family.source: family.service},
                **{family.destination: family.port_addresses},
                tcp_src=tcp_src,
            )
            yield FlowKey(options.table_base + Table.FromProxy, Priority.Other, match), 0


EARLIER = tuple(_earlier())
"""Flows of generation 1, each with its ofport: the controller and --cleanup delete them."""


def is_ours(options: FlowOptions, key: FlowKey, cookie: int) -> bool:
    """Whether a flow is ours, of this generation of the pipeline or of an earlier one."""
    return has_our_cookie(cookie) and _shape(options, key, ofport_of(cookie)) in _shapes()


def is_learned(options: FlowOptions, key: FlowKey) -> bool:
    """Whether a flow of ours is one that the switch has learned."""
    return (key.table, key.priority) == (options.table_base + Table.Learned, Priority.Learned)


@cache
def matched_fields() -> frozenset[str]:
    """The names of all fields that flows of ours match."""
    return frozenset(name for shape in _shapes() if shape for name, _ in shape[2])


@cache
def _shapes() -> frozenset[Shape | None]:
    options = FlowOptions()
    flows = pipeline(options, 1, [Port(2, "fa:16:3e:00:00:01", "10.0.0.5")])
    keys = [(flow.key, ofport_of(flow.cookie)) for flow in flows.values()]
    keys += [*_learned(flows), *_passing(flows), *EARLIER]
    return frozenset(_shape(options, key, ofport) for key, ofport in keys)


def _learned(flows: Mapping[FlowKey, Flow]) -> Iterator[tuple[FlowKey, int]]:
    """What the switch learns, of whichever source port."""
    for flow in flows.values():
        for action in flow.actions:
            if isinstance(action, Learn):
                fields = {
                    each.field: each.value if isinstance(each, MatchConstant) else 0
                    for each in action.specs
                    if isinstance(each, MatchConstant | MatchField)
                }
                key = FlowKey(action.table, action.priority, Match.of(**fields))
                yield key, ofport_of(action.cookie)


def _passing(flows: Mapping[FlowKey, Flow]) -> Iterator[tuple[FlowKey, int]]:
    """The hooks for one connection, while a host is being disabled (flows/passing.py)."""
    for key, flow in flows.items():
        fields = dict(key.match.fields)
        if key.table == 0 and "tcp_dst" in fields:
            match = Match.of(**fields, tcp_src=0)
            yield FlowKey(key.table, key.priority, match), ofport_of(flow.cookie)


def _shape(options: FlowOptions, key: FlowKey, ofport: int) -> Shape | None:
    """The shape of a flow that serves this ofport, 0 for all; None if no port can have it."""
    in_table_0 = key.table == 0
    table = None if in_table_0 else key.table - options.table_base
    if ofport == 0:
        priority = key.priority - options.priority if in_table_0 else key.priority
        return table, priority, frozenset(_of_all(key.match))
    if why_unservable(ofport):
        return None
    learned = table == Table.Learned
    return (
        table,
        None if in_table_0 else key.priority,
        frozenset(_of_port(key.match, ofport, learned)),
    )


def _of_all(match: Match) -> Iterator[tuple[str, object]]:
    for name, value in match.fields:
        yield name, _ANY if name == "in_port" else value


def _of_port(match: Match, ofport: int, learned: bool) -> Iterator[tuple[str, object]]:
    known = {
        "in_port": (ofport, _OFPORT),
        "ipv4_dst": (port_address(ofport, 4), _PORT_ADDRESS),
        "ipv6_dst": (port_address(ofport, 6), _PORT_ADDRESS),
    }
    for name, value in match.fields:
        if name in _OF_THE_GUEST or (learned and name == "tcp_dst"):
            yield name, value if isinstance(value, tuple) else _ANY
        else:
            its_own, meaning = known.get(name, (None, None))
            yield name, meaning if value == its_own else value
