"""Which flows in a switch are ours. Pure, and the one place that decides.

A bridge is shared, and other programs' cookies are random numbers: sooner or later one begins as
ours do. So a cookie alone proves nothing. A flow is ours if our pipeline has a flow of its table,
priority, match and cookie, down to the ofport. All code that sends, deletes, reads or shows flows
asks here.
"""

from collections.abc import Iterator, Mapping
from functools import cache

from ovs_metadata.flows.earlier import LEARNED, earlier_flows
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import Table, has_our_cookie, ofport_of
from ovs_metadata.flows.values import Flow, FlowKey, Match
from ovs_metadata.host.address import port_address, why_unservable
from ovs_metadata.host.config import FlowOptions

_OFPORT = "the ofport in the cookie"
_PORT_ADDRESS = "the port address of that ofport"
_ANY = "any one value"

Shape = tuple[bool, int | None, int | None, frozenset[tuple[str, object]]]
"""What all flows that do the same for different ports have in common: table, priority and match.

The first item says whether a flow serves one port. Our tables are numbered from the base; None is
table 0. The priority of a hook is the difference to the configured one. It is None for the hooks of
instances' ports: they are ours at any priority, so that the agent removes them after a change of
the option.
"""


def is_ours(options: FlowOptions, key: FlowKey, cookie: int) -> bool:
    """Whether a flow is ours, of this generation of the pipeline or of an earlier one."""
    return has_our_cookie(cookie) and _shape(options, key, ofport_of(cookie)) in _shapes()


@cache
def matched_fields() -> frozenset[str]:
    """The names of all fields that our flows match."""
    return frozenset(name for shape in _shapes() if shape for name, _ in shape[-1])


@cache
def _shapes() -> frozenset[Shape | None]:
    options = FlowOptions()
    flows = pipeline(options, 1, [Port(2, "fa:16:3e:00:00:01")])
    keys = [(flow.key, ofport_of(flow.cookie)) for flow in flows.values()]
    keys += [*_passing(flows), *earlier_flows()]
    return frozenset(_shape(options, key, ofport) for key, ofport in keys)


def _passing(flows: Mapping[FlowKey, Flow]) -> Iterator[tuple[FlowKey, int]]:
    """The hooks for one connection, while a host is being disabled (flows/withdrawal.py)."""
    for key, flow in flows.items():
        fields = dict(key.match.fields)
        if key.table == 0 and "tcp_dst" in fields:
            match = Match.of(**fields, tcp_src=0)
            yield FlowKey(key.table, key.priority, match), ofport_of(flow.cookie)


def _shape(options: FlowOptions, key: FlowKey, ofport: int) -> Shape | None:
    """The shape of a flow that serves this ofport, 0 for all; None if no port can have it."""
    table = None if key.table == 0 else key.table - options.table_base
    if ofport == 0:
        relative_to = options.priority if table is None else 0
        return False, table, key.priority - relative_to, frozenset(_of_all(key.match))
    if why_unservable(ofport):
        return None
    priority = None if table is None else key.priority
    return True, table, priority, frozenset(_of_port(key.match, table, ofport))


def _of_all(match: Match) -> Iterator[tuple[str, object]]:
    for name, value in match.fields:
        yield name, _ANY if name == "in_port" else value


def _of_port(match: Match, table: int | None, ofport: int) -> Iterator[tuple[str, object]]:
    addresses = {port_address(ofport, 4), port_address(ofport, 6)}
    for name, value in match.fields:
        if name in _of_the_guest(table):
            yield name, value if isinstance(value, tuple) else _ANY
        elif name == "in_port" and value == ofport:
            yield name, _OFPORT
        elif value in addresses:
            yield name, _PORT_ADDRESS
        else:
            yield name, value


def _of_the_guest(table: int | None) -> frozenset[str]:
    """What flows of a port match of its record, or of its guest's connection."""
    if table == LEARNED:
        return frozenset({"tcp_dst"})
    if table == Table.ToProxy:
        return frozenset({"eth_src", "ipv4_src", "ipv6_src"})
    return frozenset({"tcp_src"})
