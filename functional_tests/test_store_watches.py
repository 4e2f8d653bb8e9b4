"""How many watches an agent has with ZooKeeper."""

import re
from collections.abc import Iterator

import pytest
from contracts.store_support import StateRecorder, record

from lab.rig.process import wait_for
from lab.rig.zookeeper import ZooKeeper
from ovs_metadata.store import open_store
from ovs_metadata.store.zookeeper.follower import SPARE_WATCHES

PORTS = 50


@pytest.fixture
def server() -> Iterator[ZooKeeper]:
    """One whose watches are the test's alone."""
    with ZooKeeper() as own:
        yield own


def _watches(server: ZooKeeper) -> int:
    found = re.search(r"Total watches:(\d+)", server.command("wchs"))
    assert found
    return int(found[1])


def test_watches_stay_as_many_as_ports_however_many_come_and_go(server: ZooKeeper) -> None:
    store = open_store(server.url)
    received = StateRecorder()
    follower = store.follow(received)
    limit = SPARE_WATCHES + PORTS
    for start in range(0, 1000, PORTS):
        # Half of them have a record, which never changes again; the others never get one.
        present = [record(number) for number in range(start, start + PORTS, 2)]
        absent = [record(number).port_id for number in range(start + 1, start + PORTS, 2)]
        for each in present:
            store.put(each)
        follower.set_ports([*(each.port_id for each in present), *absent])
        for each in present:
            received.wait_for(each.port_id, each)
        for port_id in absent:
            received.wait_for(port_id, None)
        wait_for(lambda: _watches(server) <= limit, "the watches of former ports to go", 10)
        assert len(store.nodes.client._data_watchers) <= limit + PORTS  # type: ignore[attr-defined]
    assert _watches(server) >= PORTS
    # Those that are followed are still watched, and those followed again are again.
    for number in (950, 0):
        follower.set_ports([record(number).port_id, record(950).port_id])
        received.wait_for(record(number).port_id, record(number))
        store.put(record(number, revision=2))
        received.wait_for(record(number).port_id, record(number, revision=2))
    store.close()


def test_a_watch_that_two_need_stays_when_one_leaves(server: ZooKeeper) -> None:
    store = open_store(server.url)
    leaving, staying = StateRecorder(), StateRecorder()
    shared = [record(number).port_id for number in range(SPARE_WATCHES + 1)]
    first, second = store.follow(leaving), store.follow(staying)
    first.set_ports(shared)
    second.set_ports(shared)
    wait_for(lambda: len(leaving.calls) == len(staying.calls) == len(shared), "all states")
    first.set_ports([])
    wait_for(
        lambda: not store.nodes.watches.of(first._on_watch),  # type: ignore[attr-defined]
        "the first to watch nothing",
    )
    assert _watches(server) == len(shared)
    store.put(record(1))
    staying.wait_for(record(1).port_id, record(1))
    second.set_ports([])
    wait_for(lambda: _watches(server) == 0, "no watch to be left")
    store.close()
