"""Looks at the ports of the bridge: interfaces, their records, and what the agent says of them."""

from collections.abc import Iterable, Mapping

from ovs_metadata.cli.common import port_state
from ovs_metadata.cli.doctor.facts import AdminFacts, PortFacts
from ovs_metadata.cli.doctor.look_host import link_problem
from ovs_metadata.cli.doctor.look_store import canonical_address
from ovs_metadata.host.join import HostPorts, Interface, Records, join_ports, with_instances
from ovs_metadata.host.ovsdb import Bridge
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store


def look_at_ports(
    bridge: Bridge,
    attached_macs: Mapping[str, str],
    store: Store,
    admin: AdminFacts | None,
) -> tuple[list[PortFacts], Records, HostPorts]:
    """All ports of the bridge, their records, and what is bound; raises StoreError."""
    port_ids = {interface.port_id for interface in bridge.interfaces} - {None}
    read: Records = {port_id: port_state(store, port_id) for port_id in port_ids if port_id}
    records = with_instances(read, port_ids)
    host_ports = join_ports(bridge.interfaces, records)
    asked = bool(admin and not admin.silent and not admin.unreachable)
    told = {each["port_id"]: each for each in admin.ports} if admin else {}

    def port(interface: Interface) -> PortFacts:
        port_id = interface.port_id
        return PortFacts(
            interface,
            port_id,
            records.get(port_id) if port_id else None,
            host_ports,
            rivals=tuple(_rivals(interface, bridge.interfaces)),
            attached_mac=attached_macs.get(interface.name),
            link=link_problem(interface.name) or "",
            told=told.get(port_id) if port_id else None,
            asked=asked,
        )

    return [port(interface) for interface in bridge.interfaces], records, host_ports


def _rivals(interface: Interface, every: Iterable[Interface]) -> Iterable[str]:
    """The other interfaces that claim the same port, if this one has a number."""
    port_id = interface.port_id
    for other in every:
        same = port_id is not None and other.port_id == port_id
        if same and other.name != interface.name and (other.ofport or 0) > 0:
            yield other.name


def named(ports: Iterable[PortFacts], word: str) -> list[PortFacts]:
    """Those that a word names: port's or instance's UUID, interface's name, or fixed IP."""
    lower, address = word.lower(), canonical_address(word)
    return [port for port in ports if lower in _names(port) or address in _addresses(port)]


def _names(port: PortFacts) -> set[str]:
    record = port.state if isinstance(port.state, PortRecord) else None
    interface = port.interface
    names = (port.port_id, interface.name, interface.vm_uuid, record and record.device_id)
    return {name.lower() for name in names if name}


def _addresses(port: PortFacts) -> tuple[str, ...]:
    return port.state.fixed_ips if isinstance(port.state, PortRecord) else ()
