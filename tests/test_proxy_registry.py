"""Counting guests' connections."""

from proxy_support import identity

from ovs_metadata.proxy.identity import Entry
from ovs_metadata.proxy.registry import ConnectionRegistry


class Connection:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Entry | None, Entry | None]] = []

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        self.told.append((before, now))


def test_connections_are_counted_by_port_over_all_its_addresses() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry()
    first, second, third = Connection(), Connection(), Connection()
    assert registry.add(first, address="169.254.0.5", entry=identity(5)) == 1
    assert registry.add(second, address="fe80::a9fe:5", entry=identity(5)) == 2
    assert registry.add(third, address="169.254.0.6", entry=None) == 1
    registry.remove(first)
    registry.remove(first)
    assert registry.add(first, address="169.254.0.5", entry=identity(5)) == 2
    assert len(registry) == 3


def test_a_change_is_told_to_the_connections_of_that_address() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry()
    first, second = Connection(), Connection()
    registry.add(first, address="169.254.0.5", entry=identity(5))
    registry.add(second, address="169.254.0.6", entry=identity(6))
    registry.identity_changed("169.254.0.5", identity(5), None)
    registry.identity_changed("169.254.0.99", identity(5), None)
    assert first.told == [(identity(5), None)]
    assert second.told == []


def test_nothing_is_left_of_connections_that_are_gone() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry()
    for number in range(100):
        connection = Connection()
        registry.add(connection, address=f"169.254.0.{number}", entry=identity(number))
        registry.remove(connection)
    assert len(registry) == 0
    assert not registry._by_address
    assert not registry._counts
