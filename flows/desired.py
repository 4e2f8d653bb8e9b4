"""Which flows a host should have, given which ports are served. Pure.

The flow controller installs them, and operators' commands compare the switch with them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from ovs_metadata.flows.meters import MeterRoom
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import ofport_of
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.host.ovsdb import Bridge


@dataclass(frozen=True, slots=True)
class MetadataNumber:
    """The metadata port's number, and the row of the bridge on which it had it."""

    ofport: int
    row: UUID | None


def metadata_number(bridge: Bridge | None, before: MetadataNumber | None) -> MetadataNumber | None:
    """The metadata port's number in the flows.

    While the metadata port is being replaced, this is its last number. Hooks that lead nowhere are
    better than no hooks: without them another service on the network gets the requests. It is never
    a number that another interface has now, for that interface's guest would get the requests. On a
    new bridge any guest may get the number, so there the last one is not used.
    """
    if bridge is None:
        return None
    if bridge.metadata_ofport is not None:
        return MetadataNumber(bridge.metadata_ofport, bridge.row)
    taken = (each.ofport for each in bridge.interfaces.values())
    if before is None or before.row != bridge.row or before.ofport in taken:
        return None
    return before


def desired_flows(
    options: FlowOptions, metadata_ofport: int | None, host_ports: HostPorts, meters: MeterRoom
) -> Mapping[FlowKey, Flow]:
    """All flows that the bridge should have."""
    ports = (port_of(each, meters) for each in host_ports.served.values())
    return pipeline(options, metadata_ofport, ports)


def port_of(served: ServedPort, meters: MeterRoom) -> Port:
    """A served port, as the pipeline needs it."""
    return Port(
        served.ofport,
        served.record.mac_address,
        meters.fits(served.ofport),
        served.options.options.hop_limit,
        served.vlan,
    )


def hooked_ofport(flows: Iterable[tuple[FlowKey, int]]) -> int | None:
    """The metadata port's ofport according to the hook in the switch, given as key and cookie.

    While the metadata port is away the flow controller keeps what leads to the one there was.
    """
    for key, cookie in flows:
        in_port = dict(key.match.fields).get("in_port")
        if key.table == 0 and ofport_of(cookie) == 0 and isinstance(in_port, int):
            return in_port
    return None
