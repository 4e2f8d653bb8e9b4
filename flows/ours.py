"""Which flows in a switch are ours. Pure, and the one place that decides.

A bridge is shared, and other programs' cookies are random numbers: sooner or later one begins as
ours do. So a cookie alone proves nothing. A flow is ours if our pipeline has a flow of its table,
priority, match and cookie, down to the ofport. All code that sends, deletes, reads or shows flows
asks here.
"""

from collections.abc import Iterator, Mapping
from functools import cache

from ovs_metadata.flows.earlier import LEARNED, earlier_flows
from ovs_metadata.flows.family import in_vlan
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import Table, has_our_cookie, place_of_cookie
from ovs_metadata.flows.values import Flow, FlowKey, Match
from ovs_metadata.host.address import VLAN_MAX, ofport_at, port_address, vlan_at, why_unservable
from ovs_metadata.host.config import FlowOptions

_OFPORT = "the ofport in the cookie"
_VLAN = "the VLAN in the cookie"
_PORT_ADDRESS = "the port address of that place"
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
    return has_our_cookie(cookie) and _shape(options, key, place_of_cookie(cookie)) in _shapes()


@cache
def matched_fields() -> frozenset[str]:
    """The names of all fields that our flows match."""
    return frozenset(name for shape in _shapes() if shape for name, _ in shape[-1])


@cache
def _shapes() -> frozenset[Shape | None]:
    options = FlowOptions()
    ports = [Port(2, "fa:16:3e:00:00:01", vlan=vlan) for vlan in (0, 1)]
    flows = pipeline(options, 1, ports)
    keys = [(flow.key, place_of_cookie(flow.cookie)) for flow in flows.values()]
    keys += [*_passing(flows), *earlier_flows()]
    return frozenset(_shape(options, key, place) for key, place in keys)


def _passing(flows: Mapping[FlowKey, Flow]) -> Iterator[tuple[FlowKey, int]]:
    """The hooks for one connection, while a host is being disabled (flows/withdrawal.py)."""
    for key, flow in flows.items():
        fields = dict(key.match.fields)
        if key.table == 0 and "tcp_dst" in fields:
            match = Match.of(**fields, tcp_src=0)
            yield FlowKey(key.table, key.priority, match), place_of_cookie(flow.cookie)


def _shape(options: FlowOptions, key: FlowKey, place: int) -> Shape | None:
    """The shape of a flow that serves the port at a place, 0 for all; None if there is none."""
    table = None if key.table == 0 else key.table - options.table_base
    if place == 0:
        relative_to = options.priority if table is None else 0
        return False, table, key.priority - relative_to, frozenset(_of_all(key.match))
    if why_unservable(ofport_at(place)) or vlan_at(place) > VLAN_MAX:
        return None
    priority = None if table is None else key.priority
    return True, table, priority, frozenset(_of_port(key.match, table, place))


def _of_all(match: Match) -> Iterator[tuple[str, object]]:
    for name, value in match.fields:
        yield name, _ANY if name == "in_port" else value


def _of_port(match: Match, table: int | None, place: int) -> Iterator[tuple[str, object]]:
    addresses = {port_address(place, 4), port_address(place, 6)}
    vlan = vlan_at(place)
    for name, value in match.fields:
        if name in _of_the_guest(table):
            yield name, value if isinstance(value, tuple) else _ANY
        elif name == "in_port" and value == ofport_at(place):
            yield name, _OFPORT
        elif vlan and name == "vlan_vid" and value == in_vlan(vlan):
            yield name, _VLAN
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
