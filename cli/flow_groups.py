"""Our flows by port, each with what it does and whether it should be there. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ovs_metadata.cli.port_status import PortStatus
from ovs_metadata.flows.dump import DumpedFlow
from ovs_metadata.flows.family import ETH_IPV6
from ovs_metadata.flows.ofctl import match_text
from ovs_metadata.flows.tables import place_of_cookie
from ovs_metadata.flows.values import Flow, FlowKey, Match


class FlowState(StrEnum):
    """How a flow in the switch compares with what should be there."""

    INSTALLED = "installed"
    """It should be there, and is."""
    MISSING = "missing"
    """It should be there, and is not."""
    DIFFERENT = "different"
    """It is there, but with other actions, another cookie or other flags than it should have."""
    UNEXPECTED = "unexpected"
    """It is our flow, and should not be there."""


@dataclass(frozen=True, slots=True)
class ListedFlow:
    """One line of the listing. `packets` and `octets` are None when the flow is missing."""

    key: FlowKey
    cookie: int
    state: FlowState
    does: str
    packets: int | None = None
    octets: int | None = None

    @property
    def match(self) -> str:
        """What it matches, in ovs-ofctl's notation if the pipeline has matches like it."""
        return _match(self.key.match)

    @property
    def family(self) -> str | None:
        """Which IP version it is for, "IPv4" or "IPv6"; None when it is for both."""
        eth_type = dict(self.key.match.fields).get("eth_type")
        if eth_type is None:
            return None
        return "IPv6" if eth_type == ETH_IPV6 else "IPv4"


@dataclass(frozen=True, slots=True)
class Group:
    """The flows of one port, in the order of tables and falling priority.

    Without `port_status` no port of the bridge is at this place (host/address.py). With place 0
    they serve all.
    """

    place: int
    port_status: PortStatus | None
    flows: tuple[ListedFlow, ...]


def groups(
    desired: Mapping[FlowKey, Flow],
    dumped: Iterable[DumpedFlow],
    port_statuses: Iterable[PortStatus],
) -> list[Group]:
    """Flows that are or should be in the switch: those for all ports first, then by port.

    Ports that should be served and are not are listed even when they have no flows.
    """
    dumped = list(dumped)
    there = {flow.key for flow in dumped}
    listed = [_there(flow, desired.get(flow.key)) for flow in dumped]
    listed += [
        ListedFlow(key, flow.cookie, FlowState.MISSING, flow.note)
        for key, flow in desired.items()
        if key not in there
    ]
    listed.sort(key=lambda flow: (flow.key.table, -flow.key.priority, flow.match))
    by_place: dict[int, list[ListedFlow]] = {0: []}
    for flow in listed:
        by_place.setdefault(place_of_cookie(flow.cookie), []).append(flow)
    found = []
    for port_status in port_statuses:
        flows = by_place.pop(port_status.interface.place or -1, [])
        if flows or port_status.is_instance_port:
            found.append(Group(port_status.interface.place or 0, port_status, tuple(flows)))
    everybodys = Group(0, None, tuple(by_place.pop(0)))
    nobodys = [Group(place, None, tuple(flows)) for place, flows in by_place.items()]
    return [everybodys, *found, *nobodys]


def _there(flow: DumpedFlow, desired: Flow | None) -> ListedFlow:
    if desired is None:
        state, does = FlowState.UNEXPECTED, _match(flow.key.match) or "every packet"
    else:
        state = FlowState.INSTALLED if flow.as_desired else FlowState.DIFFERENT
        does = desired.note
    return ListedFlow(flow.key, flow.cookie, state, does, flow.packets, flow.octets)


def _match(match: Match) -> str:
    try:
        return match_text(match)
    except ValueError:
        return ",".join(f"{name}={value}" for name, value in match.fields)
