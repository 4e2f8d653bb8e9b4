"""Whether each port of the bridge is served, and if not, why: for operators. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netaddr import INET_PTON, AddrFormatError, IPAddress

from ovs_metadata.agent.identities import identity_table
from ovs_metadata.host.address import port_address
from ovs_metadata.host.join import (
    DEAD_VLAN,
    HostPorts,
    Interface,
    Records,
    ServedPort,
    may_be_served,
)
from ovs_metadata.proxy.control.identity import Entry, Pending
from ovs_metadata.store.interface import BoundElsewhere, MalformedRecord, PortState
from ovs_metadata.store.record import COMPUTE, PortRecord


@dataclass(frozen=True, slots=True)
class PortStatus:
    """One interface of the bridge.

    served: the port there, if it has flows. reason: why its instance gets no metadata; None if it
    does. A port with flows has one, too, when the proxy has no identity for it. is_instance_port:
    it is served, or would be if something were in order.
    """

    interface: Interface
    port_id: str | None = None
    record: PortRecord | None = None
    served: ServedPort | None = None
    reason: str | None = None
    is_instance_port: bool = True

    @property
    def instance(self) -> str | None:
        """The instance, as the record says; if there is none, as Nova says."""
        return self.record.device_id if self.record else self.interface.vm_uuid

    @property
    def title(self) -> str:
        """A name for operators, in one phrase."""
        port = f"port {self.port_id}, " if self.port_id else ""
        return f"{port}interface {self.interface.title}"

    def document(self) -> dict[str, object]:
        """For JSON: the port, where it is, whether it is served, and why not."""
        return {
            "port_id": self.port_id,
            "instance": self.instance,
            "interface": self.interface.name,
            "ofport": self.interface.ofport,
            "vlan": self.interface.vlan,
            "fixed_ips": list(self.record.fixed_ips) if self.record else [],
            "served": self.reason is None,
            "why_not": self.reason,
        }


def port_statuses(
    interfaces: Iterable[Interface], records: Records, host_ports: HostPorts
) -> list[PortStatus]:
    """The status of every interface, by ofport and VLAN."""
    # Only whether there are identities matters here, so any secret will do to sign them.
    identities = identity_table(host_ports, b"")
    found = [_port_status(interface, records, host_ports, identities) for interface in interfaces]
    return sorted(found, key=_order)


def _order(status: PortStatus) -> tuple[int, int, str]:
    interface = status.interface
    return interface.ofport or 0, interface.vlan, interface.name


def _port_status(
    interface: Interface, records: Records, host_ports: HostPorts, identities: Mapping[str, Entry]
) -> PortStatus:
    port_id = interface.port_id
    state = records.get(port_id) if port_id else None
    record = record_in(state)
    served = host_ports.served.get(interface.place or 0)
    if served and served.interface == interface.name:
        entry = identities[port_address(served.place)]
        reason = entry.reason if isinstance(entry, Pending) else None
        return PortStatus(interface, port_id, record, served, reason)
    malformed = state if isinstance(state, MalformedRecord) else None
    return PortStatus(
        interface,
        port_id,
        record,
        reason=_reason(interface, record or malformed, host_ports),
        is_instance_port=interface.title in host_ports.refused
        or interface.place in host_ports.pending,
    )


def _reason(
    interface: Interface, record: PortRecord | MalformedRecord | None, host_ports: HostPorts
) -> str:
    """The first reason."""
    if interface.title in host_ports.refused:
        return host_ports.refused[interface.title]
    if not interface.iface_id:
        return "it has no external_ids:iface-id, so it belongs to no Neutron port"
    if isinstance(record, PortRecord) and not may_be_served(record):
        return _why_not_served(record)
    if interface.ofport is None:
        return "Open vSwitch has given it no ofport yet: is ovs-vswitchd running?"
    if interface.tag == DEAD_VLAN:
        return f"it is on the dead VLAN (tag {DEAD_VLAN}): Neutron has not wired it yet"
    reason = host_ports.pending_reasons.get(
        interface.place or 0,
        "it has neither a record nor external_ids:vm-uuid, so it is not an instance's",
    )
    return f"{reason}: {record.reason}" if isinstance(record, MalformedRecord) else reason


def _why_not_served(record: PortRecord) -> str:
    owner = record.device_owner
    if not owner.startswith(COMPUTE):
        return f"its device owner is {owner!r}: only ports of instances ({COMPUTE}…) are served"
    return "it is disabled in Neutron (admin_state_up is false)"


def record_in(state: PortState) -> PortRecord | None:
    """The record in a port's state, also if the port is another hypervisor's at present."""
    if isinstance(state, BoundElsewhere):
        return state.record
    return state if isinstance(state, PortRecord) else None


def chosen(every: Iterable[PortStatus], selector: str) -> list[PortStatus]:
    """Those that a selector names, see `is_named`."""
    return [each for each in every if is_named(each.interface, each.record, selector)]


def is_named(interface: Interface, record: PortRecord | None, selector: str) -> bool:
    """Whether a selector names this port.

    It may be the port's or its instance's UUID, a fixed IP, or the name of the interface, which is
    not that of a sub-port behind it.
    """
    name = None if interface.vlan else interface.name
    names = (name, interface.port_id, interface.vm_uuid, record and record.device_id)
    if selector.lower() in {name.lower() for name in names if name}:
        return True
    return record is not None and canonical_address(selector) in record.fixed_ips


def canonical_address(selector: str) -> str | None:
    """The selector as port records spell addresses; None when it is none."""
    try:
        return str(IPAddress(selector, flags=INET_PTON))
    except (ValueError, AddrFormatError):
        return None
