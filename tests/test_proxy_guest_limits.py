"""Guests' connections by port, and what a port may use."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_support import identity

from ovs_metadata.proxy.control.identity import Entry
from ovs_metadata.proxy.guest.limits import (
    FREE_READS,
    PATIENCE,
    READ_PAUSE,
    ConnectionRegistry,
    PortLimits,
)


def at_once(function: Callable[[], None]) -> None:
    function()


class Connection:
    """Records the notifications."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.changes: list[tuple[Entry | None, Entry | None]] = []
        self.slots = 0
        self.unheard_since = math.inf

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        self.changes.append((before, now))

    def slot_granted(self) -> None:
        self.slots += 1


def test_connections_are_counted_by_port_over_all_its_addresses() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(at_once)
    over_ipv4, over_ipv6 = Connection("169.254.0.5"), Connection("fe80::a9fe:5")
    port = registry.add(over_ipv4, identity(5))
    assert registry.add(over_ipv6, identity(5)) is port
    assert registry.add(Connection("169.254.0.6"), None) is not port
    assert port.connections == {over_ipv4, over_ipv6}
    registry.remove(over_ipv4, port)
    assert registry.most_crowded().connections
    assert len(port.connections) == 1
    assert len(registry) == 2


def test_the_most_crowded_port_is_the_one_with_most_connections() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(at_once)
    for number, count in ((5, 2), (6, 3), (7, 1)):
        for _ in range(count):
            registry.add(Connection(f"169.254.0.{number}"), identity(number))
    assert registry.most_crowded().name == identity(6).port_id


def test_connections_of_an_address_get_its_changes() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(at_once)
    first, second = Connection("169.254.0.5"), Connection("fe80::a9fe:5")
    registry.add(first, identity(5))
    registry.add(second, identity(5))
    registry.identity_changed("169.254.0.5", identity(5), None)
    registry.identity_changed("169.254.0.99", identity(5), None)
    assert first.changes == [(identity(5), None)]
    assert second.changes == []


def test_earlier_connections_get_the_change_that_makes_the_port_known() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(at_once)
    connection = Connection("169.254.0.5")
    registry.add(connection, None)
    registry.identity_changed("169.254.0.5", None, identity(5))
    registry.identity_changed("169.254.0.5", identity(5), identity(6))
    assert connection.changes == [(None, identity(5)), (identity(5), identity(6))]


def test_nothing_is_left_of_connections_that_are_gone() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(at_once)
    for number in range(100):
        connection = Connection(f"169.254.0.{number}")
        registry.remove(connection, registry.add(connection, identity(number)))
    registry.sweep(0.0)
    assert len(registry) == 0
    assert not registry._ports


def test_a_port_that_has_asked_is_remembered_until_its_bucket_is_full_again() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(at_once)
    connection = Connection("169.254.0.5")
    port = registry.add(connection, identity(5))
    for _ in range(3):
        assert port.rate_delay(now=100.0, rate=1.0, burst=3) == 0
    registry.remove(connection, port)
    registry.sweep(102.9)
    assert registry.add(connection, identity(5)).rate_delay(now=102.9, rate=1.0, burst=3) == 0
    registry.remove(connection, port)
    registry.sweep(200.0)
    assert registry.add(connection, identity(5)) is not port


def test_reads_without_a_request_are_paced_over_all_connections_of_a_port() -> None:
    port: PortLimits[Connection] = PortLimits("port", at_once)
    assert [port.read_delay(5.0) for _ in range(FREE_READS)] == [0.0] * FREE_READS
    rests = [port.read_delay(5.0) for _ in range(64)]
    assert rests == pytest.approx([READ_PAUSE * (index + 1) for index in range(64)])
    assert port.read_delay(5.0 + 64 * READ_PAUSE) == pytest.approx(READ_PAUSE)
    # A while later all of it is forgotten.
    assert [port.read_delay(6.0) for _ in range(FREE_READS)] == [0.0] * FREE_READS


def test_the_connection_that_makes_way_is_the_one_unheard_for_longest() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(at_once)
    connections = [Connection("169.254.0.5") for _ in range(4)]
    for each in connections:
        port = registry.add(each, identity(5))
    assert port.unheard(1000.0) is None  # each has a request
    _, early, late, now = connections
    early.unheard_since, late.unheard_since, now.unheard_since = 10.0, 11.0, 12.0
    assert port.unheard(10.0 + PATIENCE - 0.1) is None
    assert port.unheard(10.0 + PATIENCE) is early
    registry.remove(early, port)
    assert port.unheard(12.0) is late


def test_a_rest_is_bounded_however_much_a_port_has_sent() -> None:
    port: PortLimits[Connection] = PortLimits("port", at_once)
    assert max(port.read_delay(5.0) for _ in range(10_000)) <= 0.5


def test_a_port_whose_reads_rest_is_remembered_until_they_have() -> None:
    registry: ConnectionRegistry[Connection] = ConnectionRegistry(at_once)
    connection = Connection("169.254.0.5")
    port = registry.add(connection, identity(5))
    rest = max(port.read_delay(100.0) for _ in range(FREE_READS + 10))
    registry.remove(connection, port)
    registry.sweep(100.0)
    assert registry.add(connection, identity(5)) is port
    registry.remove(connection, port)
    registry.sweep(100.0 + rest)
    assert registry.add(connection, identity(5)) is not port


@given(
    rate=st.floats(0.01, 1000),
    burst=st.integers(1, 500),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_no_more_than_the_burst_and_the_rate_pass(
    rate: float, burst: int, gaps: list[float]
) -> None:
    port: PortLimits[Connection] = PortLimits("port", at_once)
    now = 1000.0
    allowed = []
    for gap in gaps:
        now += gap
        delay = port.rate_delay(now, rate, burst)
        if delay == 0:
            allowed.append(now)
        else:
            # A guest that comes back after Retry-After is served.
            later: PortLimits[Connection] = PortLimits("later", at_once)
            later.tat = port.tat
            assert later.rate_delay(now + delay, rate, burst) == 0
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            seconds = allowed[last] - allowed[first]
            assert last - first + 1 <= burst + rate * seconds + 1e-3


def test_a_whole_burst_passes_at_once() -> None:
    port: PortLimits[Connection] = PortLimits("port", at_once)
    assert [port.rate_delay(5.0, 2.0, 28) for _ in range(28)] == [0.0] * 28
    assert port.rate_delay(5.0, 2.0, 28) == pytest.approx(0.5)
    assert port.tat < math.inf
