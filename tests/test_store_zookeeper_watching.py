"""How a follower on ZooKeeper keeps up: watches, lost connections, syncs and the snapshot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from contracts.store_support import StateRecorder, record
from kazoo.exceptions import ConnectionLoss, NoNodeError, ZookeeperError
from played_zookeeper import Late, Result

from lab.rig.process import wait_for
from ovs_metadata.store.layout import VERSION_NODE, port_path, version_content
from ovs_metadata.store.node_type import PORTS
from ovs_metadata.store.snapshot import Snapshot
from ovs_metadata.store.zookeeper import follower as module
from ovs_metadata.store.zookeeper.follower import ZooKeeperFollower
from ovs_metadata.store.zookeeper.session import ZooKeeperSession
from ovs_metadata.store.zookeeper.watches import NoWatcherError, RemoveWatches

ROOT = "/some/where"
FIRST, SECOND, THIRD = record(1), record(2), record(3)


class Client:
    """A client of a ZooKeeper that has nodes, by their whole path, and fires watches."""

    def __init__(self) -> None:
        self.connected = True
        self.nodes = {ROOT + VERSION_NODE: version_content()}
        self.watches: dict[str, Callable[[Any], None]] = {}
        self._data_watchers = self.watches
        self.reads: list[str] = []
        self.removed: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.handler = SimpleNamespace(
            timeout_exception=Late,
            event_object=threading.Event,
            sleep_func=lambda _: None,
            dispatch_callback=lambda callback: callback.func(*callback.args),
            async_result=SimpleNamespace,
        )

    def get_async(self, path: str, watch: Any = None) -> Result:
        def read() -> tuple[bytes, Any]:
            self._check(path)
            self.reads.append(path)
            if path not in self.nodes:
                raise NoNodeError
            if watch:
                self.watches[path] = watch
            return self.nodes[path], SimpleNamespace(version=0, last_modified=0.0)

        return Result(read)

    def exists_async(self, path: str, watch: Any = None) -> Result:
        def check() -> bool:
            self._check(path)
            self.watches[path] = watch
            return path in self.nodes

        return Result(check)

    def sync_async(self, path: str) -> Result:
        return Result(lambda: self._check(path))

    def _call(self, request: RemoveWatches, result: Any) -> None:
        def remove(timeout: float) -> None:
            assert timeout
            if self.watches.get(request.path) is None:
                raise NoWatcherError
            # Watches on data, of present and absent nodes (zookeeper.jute, Watcher.java).
            assert (request.type, request.kind) == (18, 2)
            self.removed.append(request.path)

        result.get = remove

    def _check(self, path: str) -> None:
        if not self.connected:
            raise ConnectionLoss
        if path in self.fails:
            raise self.fails[path]

    def write(self, path: str, data: bytes | None) -> None:
        if data is None:
            del self.nodes[path]
        else:
            self.nodes[path] = data
        watch = self.watches.pop(path, None)
        if watch:
            watch(SimpleNamespace(path=path))


class Rig:
    def __init__(self, snapshot: Path) -> None:
        self.client = Client()
        self.session = ZooKeeperSession(cast("Any", self.client), "zk1:2181", ROOT)
        self.session.note_state(connected=True)
        self.received = StateRecorder()
        self.snapshot = Snapshot(snapshot, "zk1")
        self.follower = ZooKeeperFollower(self.session, PORTS, self.received, None, self.snapshot)

    def follow(self, *records: Any) -> None:
        self.follower.set_ports([each.port_id for each in records])

    def put(self, each: Any) -> None:
        self.client.write(node(each), each.to_json())

    def connect(self, *, connected: bool) -> None:
        self.client.connected = connected
        if connected:
            self.client.watches.clear()
        self.session.note_state(connected=connected)
        if connected:
            self.follower.read_all()


def node(each: Any) -> str:
    return ROOT + port_path(each.port_id)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(module, "RETRY_INTERVAL", 0.01)
    monkeypatch.setattr(module, "SNAPSHOT_DELAY", 0.04)
    rig = Rig(tmp_path / "snapshot")
    yield rig
    rig.follower.close()


def test_a_node_is_read_again_whenever_its_watch_fires(rig: Rig) -> None:
    rig.put(FIRST)
    rig.follow(FIRST)
    rig.received.wait_for(FIRST.port_id, FIRST)
    rig.client.write(node(FIRST), None)
    rig.received.wait_for(FIRST.port_id, None)
    rig.put(FIRST)
    rig.received.wait_for(FIRST.port_id, FIRST)
    assert rig.received.of(FIRST.port_id) == [FIRST, None, FIRST]


def test_a_node_that_appears_between_two_requests_is_read(rig: Rig) -> None:
    exists = rig.client.exists_async

    def appearing(path: str, watch: Any = None) -> Result:
        rig.client.nodes[path] = FIRST.to_json()
        return exists(path, watch)

    rig.client.exists_async = appearing  # type: ignore[method-assign]
    rig.follow(FIRST)
    rig.received.wait_for(FIRST.port_id, FIRST)
    assert rig.received.of(FIRST.port_id) == [FIRST]


@pytest.mark.parametrize("there", [True, False])
def test_a_read_that_fails_is_repeated_and_named(
    rig: Rig, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    if there:
        rig.put(FIRST)
        rig.client.fails[node(FIRST)] = ZookeeperError()
    else:
        rig.client.exists_async = lambda *_, **__: Result(_fail)  # type: ignore[method-assign]
    rig.put(SECOND)
    rig.follow(FIRST, SECOND)
    rig.received.wait_for(SECOND.port_id, SECOND)
    wait_for(lambda: caplog.messages, "the problem in the log")
    assert f"ZooKeeper: {port_path(FIRST.port_id)} cannot be read: ZookeeperError()" in caplog.text
    assert not rig.received.of(FIRST.port_id)

    rig.client.fails.clear()
    vars(rig.client).pop("exists_async", None)
    rig.received.wait_for(FIRST.port_id, FIRST if there else None)


def _fail() -> None:
    raise ZookeeperError


def test_a_layout_that_cannot_be_read_stops_all_reads(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.client.fails[ROOT + VERSION_NODE] = Late("no answer")
    rig.put(FIRST)
    rig.follow(FIRST)
    wait_for(lambda: caplog.messages, "the problem in the log")
    assert "ZooKeeper: the version of the layout cannot be read: Late('no answer')" in caplog.text
    assert node(FIRST) not in rig.client.reads
    rig.client.fails.clear()
    rig.received.wait_for(FIRST.port_id, FIRST)


def test_a_new_connection_reads_everything_and_a_lost_one_is_no_problem(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.put(FIRST)
    rig.put(SECOND)
    rig.follow(FIRST, SECOND)
    rig.received.wait_for(SECOND.port_id, SECOND)
    rig.connect(connected=False)
    rig.client.nodes[node(FIRST)] = b"{}"
    rig.connect(connected=True)
    rig.received.wait_for_malformed(FIRST.port_id)
    assert rig.received.of(SECOND.port_id) == [SECOND]
    assert not [line for line in caplog.messages if "cannot be read" in line]


def test_a_confirmation_takes_a_sync_if_there_is_a_connection(rig: Rig) -> None:
    confirmed: list[str] = []
    rig.client.fails["/"] = Late()
    rig.follower.confirm(lambda: confirmed.append("with a connection"))
    rig.put(FIRST)
    rig.follow(FIRST)
    rig.received.wait_for(FIRST.port_id, FIRST)
    assert not confirmed
    rig.client.fails.clear()
    wait_for(lambda: confirmed, "the confirmation")

    rig.connect(connected=False)
    rig.follower.confirm(lambda: confirmed.append("without one"))
    wait_for(lambda: len(confirmed) == 2, "the other confirmation")


def test_without_a_connection_the_snapshot_is_reported_after_a_moment(
    tmp_path: Path, rig: Rig
) -> None:
    rig.put(FIRST)
    rig.follow(FIRST, SECOND)
    rig.received.wait_for(FIRST.port_id, FIRST)
    rig.received.wait_for(SECOND.port_id, None)
    rig.follower.close()

    later = Rig(tmp_path / "snapshot")
    later.connect(connected=False)
    try:
        later.follow(FIRST, SECOND, THIRD)
        later.received.wait_for(FIRST.port_id, FIRST)
        # Neither the absence of a record nor what was never followed is known.
        assert later.received.calls == [(FIRST.port_id, FIRST)]
    finally:
        later.follower.close()


def test_what_a_snapshot_says_is_replaced_by_what_is_read(tmp_path: Path, rig: Rig) -> None:
    rig.put(FIRST)
    rig.follow(FIRST)
    rig.received.wait_for(FIRST.port_id, FIRST)
    rig.follower.close()
    later = Rig(tmp_path / "snapshot")
    later.connect(connected=False)
    try:
        later.follow(FIRST)
        later.received.wait_for(FIRST.port_id, FIRST)
        later.connect(connected=True)
        later.received.wait_for(FIRST.port_id, None)
    finally:
        later.follower.close()


def test_many_watches_of_dropped_nodes_are_removed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARE_WATCHES", 1)
    for each in (FIRST, SECOND, THIRD):
        rig.put(each)
    rig.follow(FIRST, SECOND, THIRD)
    rig.received.wait_for(THIRD.port_id, THIRD)
    wait_for(lambda: len(rig.received.calls) == 3, "all states")
    rig.follow(FIRST, SECOND)
    rig.put(FIRST)  # wakes it
    rig.follow(FIRST)
    wait_for(lambda: len(rig.client.removed) == 2, "the watches to be removed")
    assert sorted(rig.client.removed) == sorted([node(SECOND), node(THIRD)])
    assert node(FIRST) not in rig.client.removed
