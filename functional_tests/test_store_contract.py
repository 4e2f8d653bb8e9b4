"""The ZooKeeper store on a real server: the contract of all stores, and outages."""

import contextlib
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from lab.rig.zookeeper import ZooKeeper
from ovs_metadata.store import open_store
from ovs_metadata.store.errors import StoreError, StoreUnavailable, UnknownLayout
from ovs_metadata.store.layout import VERSION_NODE, port_path
from ovs_metadata.store.store import Store

pytest.register_assert_rewrite(
    "contracts.store_contract",
    "contracts.store_document_contract",
    "contracts.store_follow_contract",
)

from contracts.store_contract import StoreContract  # noqa: E402
from contracts.store_support import (  # noqa: E402
    Followed,
    Place,
    StateRecorder,
    followed,
    record,
    store,
)

from lab.rig.process import wait_for  # noqa: E402

__all__ = ["followed", "store"]


class ZooKeeperPlace:
    """A chroot of its own, two levels deep and not made yet."""

    def __init__(self, server: ZooKeeper) -> None:
        self.chroot = f"/contract/{uuid.uuid4()}"
        self.url = f"{server.url}{self.chroot}"
        self.hosts = server.hosts
        self.client = KazooClient(server.hosts)
        self.client.start()
        self._opened: list[Store] = []

    def open(self, on_fatal: Callable[[StoreError], None] | None = None) -> Store:
        self._opened.append(open_store(self.url, on_fatal=on_fatal))
        return self._opened[-1]

    def close(self) -> None:
        """Close all of it, so that nothing of a failed test goes on logging in the next one."""
        for opened in self._opened:
            opened.close()
        self.client.stop()
        self.client.close()

    def write(self, path: str, content: bytes) -> None:
        self.client.ensure_path(self.chroot + path)
        self.client.set(self.chroot + path, content)

    def read(self, path: str) -> bytes | None:
        try:
            content: bytes = self.client.get(self.chroot + path)[0]
        except NoNodeError:
            return None
        return content


@pytest.fixture(autouse=True)
def _show_log(zookeeper: ZooKeeper) -> Iterator[None]:
    """Print the server's log, which pytest shows when a test fails; start it if a test ended it."""
    yield
    sys.stdout.write(zookeeper.tail())
    if not zookeeper.command("srvr"):
        zookeeper.start()


@pytest.fixture
def zookeeper_place(zookeeper: ZooKeeper) -> Iterator[ZooKeeperPlace]:
    place = ZooKeeperPlace(zookeeper)
    yield place
    place.close()


@pytest.fixture
def place(zookeeper_place: ZooKeeperPlace) -> Place:
    return zookeeper_place


class TestZooKeeperStore(StoreContract):
    """The contract."""


def _answers(store: Store) -> bool:
    with contextlib.suppress(StoreUnavailable):
        store.get(record(1).port_id)
        return True
    return False


def test_following_goes_on_after_the_server_was_killed(
    zookeeper: ZooKeeper,
    place: Place,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = place.open()
    records = [record(number) for number in range(1, 151)]
    for each in records[:100]:
        store.put(each)
    following = Followed(store)
    following.settle(*(each.port_id for each in records))
    for each in records[100:]:
        following.received.wait_for(each.port_id, None)
    before = list(following.received.calls)

    zookeeper.kill()
    wait_for(lambda: "lost the connection" in caplog.text, "the loss to be logged")
    with monkeypatch.context() as hurried:
        hurried.setattr("ovs_metadata.store.zookeeper.session.OPERATION_TIMEOUT", 1.0)
        with pytest.raises(StoreUnavailable):
            store.put(record(1, revision=2))
    # The write that failed waits in the client, and may be carried out yet.
    zookeeper.start()
    wait_for(lambda: _answers(store), "ZooKeeper to answer again", 60)

    changed = [record(2, revision=2), record(120)]
    for each in changed:
        assert store.put(each)
        following.received.wait_for(each.port_id, each)
    # Watches are set again: a second change arrives, too.
    store.put(record(2, revision=3))
    following.received.wait_for(record(2).port_id, record(2, revision=3))
    store.delete(record(3).port_id)
    following.received.wait_for(record(3).port_id, None)
    after = {port_id for port_id, _ in following.received.calls[len(before) :]}
    assert after <= {record(number).port_id for number in (1, 2, 3, 120)}
    assert caplog.text.count("lost the connection") == 1
    store.close()


def test_during_an_outage_each_reason_is_logged_once(
    zookeeper: ZooKeeper, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    store = place.open()
    following = Followed(store)
    following.settle(record().port_id)
    zookeeper.kill()
    following.follower.set_ports([record().port_id, record(2).port_id])
    with socket.create_server(("127.0.0.1", zookeeper.port)) as deaf:
        deaf.settimeout(30)
        for _ in range(5):
            deaf.accept()[0].close()
    messages = [each.getMessage() for each in caplog.records if "ovs_metadata" in each.name]
    messages += [each.getMessage() for each in caplog.records if each.name == "kazoo"]
    assert len(messages) == len(set(messages)) <= 5
    assert following.received.of(record(2).port_id) == []
    zookeeper.start()
    following.received.wait_for(record(2).port_id, None)
    store.close()


def test_a_new_session_is_followed_like_the_old_one(zookeeper_place: ZooKeeperPlace) -> None:
    store = zookeeper_place.open()
    store.put(record())
    following = Followed(store)
    following.settle(record().port_id)
    # The server forgets a session when a second client with its id and password closes it.
    session = store.nodes.client.client_id  # type: ignore[attr-defined]
    thief = KazooClient(zookeeper_place.hosts, client_id=session)
    thief.start()
    thief.stop()
    thief.close()
    zookeeper_place.write(port_path(record().port_id), record(revision=2).to_json())
    following.received.wait_for(record().port_id, record(revision=2), timeout=30)
    store.close()


def test_opened_in_the_background_it_follows_once_there_is_a_server(
    zookeeper: ZooKeeper, zookeeper_place: ZooKeeperPlace
) -> None:
    setter = zookeeper_place.open()
    setter.put(record())
    setter.close()
    zookeeper.kill()
    received = StateRecorder()
    store = open_store(zookeeper_place.url, wait=None)
    store.follow(received).set_ports([record(1).port_id, record(2).port_id])
    zookeeper.start()
    received.wait_for(record(1).port_id, record(1), timeout=20)
    received.wait_for(record(2).port_id, None)
    assert len(received.calls) == 2
    store.put(record(2))
    received.wait_for(record(2).port_id, record(2))
    store.close()


def test_a_server_that_lost_its_data_is_not_believed() -> None:
    # ZooKeeper itself ensures it: a server refuses clients that have seen newer data than its own.
    with ZooKeeper() as server:
        store = open_store(server.url)
        store.put(record())
        following = Followed(store)
        following.settle(record().port_id)
        before = list(following.received.calls)
        server.kill()
        server.wipe()
        server.start()
        wait_for(lambda: "Refusing session request" in server.tail(), "a refusal", timeout=20)
        assert following.received.calls == before
        store.close()


def test_without_a_server_it_is_unavailable_in_time(zookeeper: ZooKeeper) -> None:
    zookeeper.kill()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"no ZooKeeper answers at 127\.0\.0\.1"):
        open_store(zookeeper.url, wait=0.5)
    assert time.monotonic() - started < 5


def test_an_unknown_layout_met_in_the_background_is_fatal(
    zookeeper_place: ZooKeeperPlace,
) -> None:
    zookeeper_place.write(VERSION_NODE, b"9")
    errors: list[StoreError] = []
    received = StateRecorder()
    store = open_store(zookeeper_place.url, wait=None, on_fatal=errors.append)
    store.follow(received).set_ports([record().port_id])
    wait_for(lambda: errors, "the follower to give up")
    assert isinstance(errors[0], UnknownLayout)
    assert received.calls == []
    store.close()


FOLLOW_PATCHED = """
import eventlet
eventlet.monkey_patch()
import sys
from contracts.store_support import StateRecorder, record
from ovs_metadata.store import open_store

store = open_store(sys.argv[1])
assert type(store.nodes.client.handler).__name__ == "SequentialEventletHandler"
received = StateRecorder()
numbers = range(1, 301)
follower = store.follow(received)
follower.set_ports([record(number).port_id for number in numbers])
for number in numbers:
    received.wait_for(record(number).port_id, None)
store.put(record(7))
received.wait_for(record(7).port_id, record(7))
store.close()
print("followed")
"""


def test_it_works_in_a_process_patched_by_eventlet(zookeeper_place: ZooKeeperPlace) -> None:
    tools = Path(__file__).parent.parent / "tools"
    done = subprocess.run(
        [sys.executable, "-c", FOLLOW_PATCHED, zookeeper_place.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": f"{tools}:{tools.parent}/tests"},
    )
    assert (done.stdout, done.returncode) == ("followed\n", 0), done.stderr
