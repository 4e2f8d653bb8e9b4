"""What is read of the rows of a bridge's ports, again where something has changed.

Rows of python-ovs are slow to read, and of thousands of ports one changes at a time. So what was
read of a port is kept until its row, or that of an interface of its, changes. For the thread of the
replica of OVSDB.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

T = TypeVar("T")


class PortChanges(NamedTuple, Generic[T]):
    """What the rows of changed ports had before, and what they have now."""

    gone: list[T]
    come: list[T]


class PortRows(Generic[T]):
    """The rows of one bridge's ports; `read` makes items of a Port row."""

    def __init__(self, read: Callable[[Any], Sequence[T]]) -> None:
        self._read_row = read
        self._atoms: dict[int, Any] = {}  # of the column `ports` of the bridge; see `_atoms_of`
        self._ports: set[UUID] = set()
        self._read: dict[UUID, Sequence[T]] = {}
        self._port_of: dict[UUID, UUID] = {}  # the Port row by each row of its interfaces
        self._interfaces_of: dict[UUID, tuple[UUID, ...]] = {}
        self._changed: set[UUID] = set()  # ports whose rows are to be read
        self._bridge_changed = True

    def notified(self, row: Any) -> None:
        """A row was created, changed or deleted."""
        match row._table.name:
            case "Bridge":
                self._bridge_changed = True
            case "Port":
                self._changed.add(row.uuid)
            case "Interface" if row.uuid in self._port_of:
                self._changed.add(self._port_of[row.uuid])

    def changes(self, bridge: Any, rows: Mapping[UUID, Any]) -> PortChanges[T]:
        """Read what has changed since the last call.

        Args:
            bridge: the Bridge row, None if there is no bridge.
            rows: the Port rows of all bridges.
        """
        if self._bridge_changed or bridge is None:
            self._find_ports(bridge)
            self._bridge_changed = bridge is None
        found: PortChanges[T] = PortChanges([], [])
        for uuid in self._changed:
            found.gone.extend(self._read.pop(uuid, ()))
            for interface in self._interfaces_of.pop(uuid, ()):
                self._port_of.pop(interface, None)
        for uuid in self._changed & self._ports & rows.keys():
            row = rows[uuid]
            self._read[uuid] = self._read_row(row)
            self._interfaces_of[uuid] = tuple(each.uuid for each in row.interfaces)
            self._port_of |= dict.fromkeys(self._interfaces_of[uuid], uuid)
            found.come.extend(self._read[uuid])
        self._changed = set()
        return found

    def _find_ports(self, bridge: Any) -> None:
        """Find the ports that have joined the bridge, or left it."""
        before, self._atoms = self._atoms, _atoms_of(bridge) if bridge is not None else {}
        left = {before[each].value for each in before.keys() - self._atoms.keys()}
        joined = {self._atoms[each].value for each in self._atoms.keys() - before.keys()}
        self._ports = (self._ports - left) | joined
        self._changed |= left | joined


def _atoms_of(bridge: Any) -> dict[int, Any]:
    """The UUIDs of a Bridge row's ports, each as an atom of python-ovs, by the atom's identity.

    python-ovs keeps an atom while the port stays. To hash thousands of UUIDs, or to sort their rows
    as `bridge.ports` does, takes longer than all the rest. Who keeps the result keeps the atoms, so
    that no other gets the identity of one of them.
    """
    atoms = bridge._data["ports"].values
    return dict(zip(map(id, atoms), atoms, strict=True))
