"""What is read of the ports of a bridge: after any changes all of it, and once."""

from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from ovs.db import types
from ovs.db.data import Atom

from ovs_metadata.host.port_rows import PortRows

Row = SimpleNamespace


def a_row(table: str, uuid: UUID, **columns: Any) -> Row:
    return Row(uuid=uuid, _table=Row(name=table), **columns)


class Tables:
    """Bridge, Port and Interface rows as python-ovs keeps them, and who is notified of changes."""

    def __init__(self, rows: PortRows[str]) -> None:
        self.ports: dict[UUID, Row] = {}
        self.bridges = [a_row("Bridge", UUID(int=number)) for number in (1, 2)]
        for each in self.bridges:
            each._data = {"ports": Row(values={})}
        self._rows = rows
        self._number = 10

    def new(self, table: str, **columns: Any) -> Row:
        self._number += 1
        row = a_row(table, UUID(int=self._number), **columns)
        self._rows.notified(row)
        return row

    def plug(self, bridge: Row) -> None:
        interfaces = [self.new("Interface", value=0) for _ in range(1 + self._number % 2)]
        port = self.new("Port", interfaces=interfaces)
        self.ports[port.uuid] = port
        self.move(port, bridge)

    def move(self, port: Row, bridge: Row | None) -> None:
        for each in self.bridges:
            atoms = each._data["ports"].values
            there = next((atom for atom in atoms if atom.value == port.uuid), None)
            if there is not None and each is not bridge:
                del atoms[there]
                self._rows.notified(each)
            elif there is None and each is bridge:
                atoms[Atom(types.UuidType, port.uuid)] = None
                self._rows.notified(each)

    def unplug(self, port: Row) -> None:
        self.move(port, None)
        del self.ports[port.uuid]
        for each in (port, *port.interfaces):
            self._rows.notified(each)

    def change(self, row: Row) -> None:
        row.value += 1
        self._rows.notified(row)

    def replace_interfaces(self, port: Row) -> None:
        gone, port.interfaces = port.interfaces, [self.new("Interface", value=0)]
        for each in (port, *gone):
            self._rows.notified(each)

    def fetch_again(self) -> None:
        """The contents after a reconnection: other objects, and each row is a new one."""
        for bridge in self.bridges:
            values = bridge._data["ports"].values
            atoms = [Atom(types.UuidType, atom.value) for atom in values]
            bridge._data["ports"] = Row(values=dict.fromkeys(atoms))
            self._rows.notified(bridge)
        for port in self.ports.values():
            for each in (port, *port.interfaces):
                self._rows.notified(each)

    def of(self, bridge: Row) -> list[str]:
        ports = (self.ports[atom.value] for atom in bridge._data["ports"].values)
        return sorted(each for port in ports for each in read(port))


def read(port: Row) -> list[str]:
    return [f"{each.uuid}: {each.value}" for each in port.interfaces]


@given(st.integers(min_value=0))
def test_after_any_changes_everything_has_been_read_and_is_current(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    reads: list[UUID] = []

    def counted(port: Row) -> list[str]:
        reads.append(port.uuid)
        return read(port)

    rows = PortRows(counted)
    tables = Tables(rows)
    bridge = tables.bridges[0]
    known: list[str] = []
    for _ in range(20):
        for _ in range(random.randrange(3)):
            kind = random.randrange(8)
            port = random.choice(list(tables.ports.values())) if tables.ports else None
            if kind < 3 or port is None:
                tables.plug(random.choice(tables.bridges))
            elif kind == 3:
                tables.unplug(port)
            elif kind == 4:
                tables.move(port, random.choice(tables.bridges))
            elif kind == 5:
                tables.replace_interfaces(port)
            elif kind == 6:
                tables.change(random.choice(port.interfaces))
            elif random.random() < 0.3:
                tables.fetch_again()
        there = bridge if random.random() < 0.9 else None
        changes = rows.changes(there, tables.ports)
        for each in changes.gone:
            known.remove(each)
        known += changes.come
        assert sorted(known) == (tables.of(bridge) if there else [])
    # Another look reads nothing, and a change of one port reads that port.
    rows.changes(bridge, tables.ports)
    reads.clear()
    assert rows.changes(bridge, tables.ports) == ([], [])
    assert not reads
    tables.plug(bridge)
    rows.changes(bridge, tables.ports)
    assert len(reads) == 1
