"""Which flows a host should have, given which ports are served. Pure.

The flow controller sees to it that it has them, and operators' commands compare.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from ovs_metadata.flows.pipeline import Pipeline, Port
from ovs_metadata.flows.tables import ofport_of
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.join import HostPorts
from ovs_metadata.host.ovsdb import Bridge


@dataclass(frozen=True, slots=True)
class MetadataNumber:
    """The metadata port's number, and the row of the bridge on which it had it."""

    ofport: int
    row: UUID | None


def metadata_number(bridge: Bridge | None, before: MetadataNumber | None) -> MetadataNumber | None:
    """Which number the flows are to name.

    While the metadata port is being made anew, the one it had: hooks that lead nowhere are better
    than none, for without them whoever else answers there on the network would be asked. But never
    a number that is another interface's by now: its guest would be asked in the metadata port's
    place. On a new bridge any guest may be given it.
    """
    if bridge is None:
        return None
    if bridge.metadata_ofport is not None:
        return MetadataNumber(bridge.metadata_ofport, bridge.row)
    taken = (each.ofport for each in bridge.interfaces)
    if before is None or before.row != bridge.row or before.ofport in taken:
        return None
    return before


def desired_flows(
    options: FlowOptions,
    metadata_ofport: int | None,
    host_ports: HostPorts,
    made_by: Pipeline | None = None,
) -> Mapping[FlowKey, Flow]:
    """All flows that should stand in the bridge; `made_by` has those of the last time."""
    ports = (Port(each.ofport, each.record.mac_address) for each in host_ports.served.values())
    return (made_by or Pipeline()).flows(options, metadata_ofport, ports)


def hooked_ofport(flows: Iterable[tuple[FlowKey, int]]) -> int | None:
    """The metadata port's ofport according to the hook in the switch, given as key and cookie.

    While the metadata port is away the flow controller keeps what leads to the one there was.
    """
    for key, cookie in flows:
        in_port = dict(key.match.fields).get("in_port")
        if key.table == 0 and ofport_of(cookie) == 0 and isinstance(in_port, int):
            return in_port
    return None
