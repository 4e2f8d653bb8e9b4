"""Which port records a host needs, and those that it has: a value that changes with each report.

It needs the records of the Neutron ports that its interfaces name, and those of their sub-ports.
What a change costs does not depend on how many ports there are. No I/O; for one thread at a time.
"""

from collections.abc import Iterable

from ovs_metadata.host.index import Index
from ovs_metadata.host.join import Interface, is_instances
from ovs_metadata.host.shared_map import SharedMap
from ovs_metadata.host.trunks import sub_port_ids
from ovs_metadata.store.interface import PortState


class PluggedPorts:
    """The ports of one host."""

    def __init__(self) -> None:
        self.interfaces: SharedMap[str, Interface] = SharedMap()
        self.records: SharedMap[str, PortState] = SharedMap()
        """By port ID, as far as they are needed and have been reported."""
        self.needed: frozenset[str] = frozenset()
        """The port IDs of all needed records. Another object each time that it changes."""
        self._names: Index[str, str] = Index()  # of interfaces, by port ID
        self._parents: Index[str, str] = Index()  # port IDs, by that of a sub-port
        self._sub_ports: dict[str, frozenset[str]] = {}  # by a parent's port ID
        self._uncorroborated: set[str] = set()

    @property
    def corroborated(self) -> bool:
        """Whether OVSDB itself names the instance of each port that has a record of one."""
        return not self._uncorroborated

    def plug(self, interfaces: SharedMap[str, Interface]) -> None:
        """Take over the present interfaces, by name. Records that become needless are dropped."""
        before, self.interfaces = self.interfaces, interfaces
        changed = set()
        for name in interfaces.keys_changed_since(before):
            self._uncorroborated.discard(name)
            for interface, note in (
                (before.get(name), self._names.remove),
                (interfaces.get(name), self._names.add),
            ):
                if interface is not None and interface.port_id is not None:
                    note([interface.port_id], name)
                    changed.add(interface.port_id)
        self._update(changed)

    def report(self, port_id: str, record: PortState) -> None:
        """Take over the record of a port, if it is needed."""
        if port_id in self.needed:
            self.records = self.records.with_changes({port_id: record})
            self._update([port_id])

    def _update(self, changed: Iterable[str]) -> None:
        """Follow a change of the interfaces or the records of these ports."""
        concerned = set(changed)
        for port_id in changed:
            before = self._sub_ports.pop(port_id, frozenset())
            now = frozenset[str]()
            if port_id in self._names:
                now = sub_port_ids([self.records.get(port_id)])
            if now:
                self._sub_ports[port_id] = now
            self._parents.remove(before - now, port_id)
            self._parents.add(now - before, port_id)
            concerned |= before ^ now
        needed = {each for each in concerned if each in self._names or each in self._parents}
        if needed - self.needed or (concerned - needed) & self.needed:
            self.needed = (self.needed - concerned) | needed
            self.records = self.records.with_changes({}, gone=concerned - needed)
        for port_id in changed:
            self._corroborate(port_id)

    def _corroborate(self, port_id: str) -> None:
        is_instance = is_instances(self.records.get(port_id))
        for name in self._names.of(port_id):
            if is_instance and not self.interfaces[name].vm_uuid:
                self._uncorroborated.add(name)
            else:
                self._uncorroborated.discard(name)
