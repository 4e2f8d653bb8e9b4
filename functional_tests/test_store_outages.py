"""The ZooKeeper store when parts of it, or all, are away: ensembles, partitions, restarts."""

import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.store_support import Followed, StateRecorder, record
from kazoo.client import KazooClient

from lab.rig.process import wait_for
from lab.rig.zookeeper import ZooKeeper
from lab.rig.zookeeper_ensemble import Ensemble
from ovs_metadata.store import open_store
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.layout import AGENTS, agent_path, config_template_path
from ovs_metadata.store.store import Store

DEFAULT = config_template_path("default")


@pytest.fixture
def server() -> Iterator[ZooKeeper]:
    """One of the test's own, to be ended and started."""
    with ZooKeeper() as own:
        yield own


def _alive(store: Store) -> list[str]:
    return [each.name for each in store.announced(AGENTS) if each.alive]


def test_an_ensemble_that_loses_its_leader_goes_on() -> None:
    with Ensemble() as ensemble:
        store = open_store(ensemble.url)
        store.put(record())
        following = Followed(store)
        following.settle(record().port_id)
        ensemble.leader().kill()

        def put() -> bool:
            try:
                return store.put(record(revision=2))
            except StoreError:
                return False

        wait_for(put, "the other two to elect a leader", 60)
        following.received.wait_for(record().port_id, record(revision=2), 30)
        assert following.received.of(record().port_id) == [record(), record(revision=2)]
        store.close()


def test_a_session_that_expired_is_made_up_for(server: ZooKeeper) -> None:
    store = open_store(server.url)
    other = open_store(server.url)
    store.put(record())
    following = Followed(store)
    following.settle(record().port_id)
    received: list[bytes | None] = []
    store.follow_document(DEFAULT, received.append)
    wait_for(lambda: received == [None], "the document to be absent")
    store.announce(agent_path("hv-1"), b"here")
    wait_for(lambda: _alive(other) == ["hv-1"], "the announcement")
    # The server forgets a session when a second client with its id and password closes it.
    session = store.nodes.client.client_id  # type: ignore[attr-defined]
    thief = KazooClient(server.hosts, client_id=session)
    thief.start()
    thief.stop()
    thief.close()
    other.put(record(revision=2))
    other.write_document(DEFAULT, b"new", None)
    following.received.wait_for(record().port_id, record(revision=2), timeout=30)
    wait_for(lambda: received == [None, b"new"], "the document", 30)
    wait_for(lambda: _alive(other) == ["hv-1"], "the announcement in the new session", 30)
    store.close()
    other.close()


def test_a_partition_is_noticed_and_heals(
    server: ZooKeeper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(server.url, snapshot=tmp_path / "agent.snapshot")
    other = open_store(server.url)
    store.put(record())
    following = Followed(store)
    following.settle(record().port_id)
    assert server.pid
    # To a client, a server that is stopped is one behind a network that swallows all it is sent.
    os.kill(server.pid, signal.SIGSTOP)
    # Until that is noticed, the server may know more: nothing is confirmed.
    early = threading.Event()
    following.follower.confirm(early.set)
    assert "lost the connection" in caplog.text or not early.is_set()
    wait_for(lambda: "lost the connection" in caplog.text, "the silence to be noticed", 20)
    # No server answers any more: the last known state is all there is.
    confirmed = threading.Event()
    following.follower.confirm(confirmed.set)
    assert confirmed.wait(10)
    late = StateRecorder()
    store.follow(late).set_ports([record().port_id])
    late.wait_for(record().port_id, record())
    os.kill(server.pid, signal.SIGCONT)
    wait_for(lambda: other.put(record(revision=2)), "the server", 20)
    following.received.wait_for(record().port_id, record(revision=2), 30)
    late.wait_for(record().port_id, record(revision=2), 30)
    assert following.received.of(record().port_id) == [record(), record(revision=2)]
    store.close()
    other.close()


def test_what_was_known_survives_a_restart_during_an_outage(
    server: ZooKeeper, tmp_path: Path
) -> None:
    file = tmp_path / "state" / "agent.snapshot"
    store = open_store(server.url, snapshot=file)
    store.put(record(1))
    store.put(record(2))
    store.write_document(DEFAULT, b"document", None)
    following = Followed(store)
    following.settle(record(1).port_id, record(2).port_id, record(3).port_id)
    documents: list[bytes | None] = []
    store.follow_document(DEFAULT, documents.append)
    wait_for(lambda: documents == [b"document"], "the document")
    absent: list[bytes | None] = []
    store.follow_document(config_template_path("absent"), absent.append)
    wait_for(lambda: absent == [None], "the absent document")
    store.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    server.kill()
    restarted = open_store(server.url, wait=None, snapshot=file)
    received = StateRecorder()
    documents.clear()
    ports = restarted.follow(received)
    ports.set_ports([record(number).port_id for number in (1, 2, 3)])
    restarted.follow_document(DEFAULT, documents.append)
    restarted.follow_document(config_template_path("absent"), absent.append)
    received.wait_for(record(1).port_id, record(1))
    received.wait_for(record(2).port_id, record(2))
    wait_for(lambda: documents == [b"document"], "the document of before")
    wait_for(lambda: absent == [None, None], "the document that was absent before")
    # A port without a record was not kept, and is not known not to have one now.
    assert received.of(record(3).port_id) == []
    # Unplugged, and plugged again.
    ports.set_ports([])
    ports.set_ports([record(2).port_id, record(3).port_id])
    wait_for(lambda: len(received.of(record(2).port_id)) == 2, "the port's second state")

    server.start()
    writer = open_store(server.url)
    received.wait_for(record(3).port_id, None, timeout=30)
    writer.put(record(2, revision=2))
    received.wait_for(record(2).port_id, record(2, revision=2), timeout=30)
    # Unchanged states did not arrive again.
    assert received.of(record(2).port_id) == [record(2), record(2), record(2, revision=2)]
    writer.close()
    restarted.close()


def test_a_snapshot_is_not_used_while_there_is_a_store(server: ZooKeeper, tmp_path: Path) -> None:
    file = tmp_path / "agent.snapshot"
    store = open_store(server.url, snapshot=file)
    store.put(record())
    following = Followed(store)
    following.settle(record().port_id)
    store.close()
    changed = open_store(server.url)
    changed.put(record(revision=2, instance=9))
    changed.close()
    restarted = open_store(server.url, wait=None, snapshot=file)
    received = StateRecorder()
    restarted.follow(received).set_ports([record().port_id])
    received.wait_for(record().port_id, record(revision=2, instance=9))
    assert len(received.calls) == 1
    restarted.close()
