"""What is read of the rows of a bridge's ports, again where something has changed.

Rows of python-ovs are slow to read, and of thousands of ports one changes at a time. So what was
read of a port is kept until its row, or that of an interface of its, changes. For the thread of the
replica of OVSDB.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import compress, count
from operator import is_not
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
        self._atoms: list[Any] = []  # of the column `ports` of the bridge, python-ovs's UUIDs
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
        # Not `bridge.ports`, which sorts the rows of all ports.
        before, self._atoms = self._atoms, []
        if bridge is not None:
            self._atoms = list(bridge._data["ports"].values)
        were, are = ({each.value for each in some} for some in _differing(before, self._atoms))
        self._ports = (self._ports - were) | are
        self._changed |= were ^ are


def _differing(one: list[T], other: list[T]) -> tuple[list[T], list[T]]:
    """What two lists have between the same objects at their begin and those at their end.

    python-ovs keeps the UUIDs of a column in their order: a new one is the last. To compare
    thousands of them by their values takes longer than all the rest.
    """
    for _ in range(2):
        shorter = min(len(one), len(other))
        same = next(compress(count(), map(is_not, one, other)), shorter)
        one, other = one[same:][::-1], other[same:][::-1]
    return one, other
