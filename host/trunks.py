"""Sub-ports of trunks: their instances, and the places of those without an interface. Pure.

Under ML2/OVS a sub-port has an interface of its own, a patch port to the trunk's bridge. Under OVN
it has none: its frames come in at its parent's interface, with the tag of its VLAN.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ovs_metadata.store.interface import PortState
from ovs_metadata.store.record import COMPUTE, SUBPORT, PortRecord, SubPort

if TYPE_CHECKING:
    from ovs_metadata.host.join import Interface, Records


def sub_port_ids(states: Iterable[PortState]) -> frozenset[str]:
    """The sub-ports of all trunks whose parents have these records."""
    return frozenset(each.port_id for state in states for each in _sub_ports(state))


def with_sub_ports(interfaces: Collection[Interface], records: Records) -> list[Interface]:
    """The interfaces; for each sub-port without one, its parent's again, with the sub-port's VLAN.

    The parent's record and the sub-port's have to agree. A sub-port whose record is not there yet
    is waited for.
    """
    own = {interface.port_id for interface in interfaces}
    behind = (
        replace(interface, iface_id=each.port_id, vlan=each.vlan, attached_mac=None)
        for interface in interfaces
        for each in _sub_ports(records.get(interface.port_id or ""))
        if each.port_id not in own and _may_be_in(interface, records.get(each.port_id))
    )
    return [*interfaces, *behind]


def with_instances(records: Records, followed: Collection[str | None]) -> Records:
    """The records; those of sub-ports with the instance and the project of their parent port.

    A sub-port has no record (None) if its parent is not an instance's port on this host. It is
    absent until the store has reported a followed parent.
    """
    subports = {
        port_id: state
        for port_id, state in records.items()
        if isinstance(state, PortRecord) and state.device_owner == SUBPORT
    }
    if not subports:
        return records
    found = dict(records)
    for port_id, subport in subports.items():
        parent = records.get(subport.device_id)
        if isinstance(parent, PortRecord) and parent.device_owner.startswith(COMPUTE):
            found[port_id] = replace(
                subport,
                device_id=parent.device_id,
                project_id=parent.project_id,
                device_owner=parent.device_owner,
            )
        elif subport.device_id in records or subport.device_id not in followed:
            found[port_id] = None
        else:
            del found[port_id]
    return found


def _sub_ports(state: PortState) -> Iterator[SubPort]:
    if isinstance(state, PortRecord) and state.device_owner.startswith(COMPUTE):
        yield from state.sub_ports


def _may_be_in(parent: Interface, state: PortState) -> bool:
    """Whether a sub-port's own record does not say otherwise."""
    return not isinstance(state, PortRecord) or (
        state.device_owner == SUBPORT and state.device_id == parent.port_id
    )
