"""Locks and announcements in a live session, on a client that plays ZooKeeper's part.

What is shown here takes answers that come too late, or other clients that delete: hard to bring
about with a real server, with which everything else is tested.
"""

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from kazoo.exceptions import NodeExistsError, NoNodeError
from played_zookeeper import Late, Result

from lab.rig.process import wait_for
from ovs_metadata.store.errors import StoreUnavailable
from ovs_metadata.store.layout import VERSION_NODE, version_content
from ovs_metadata.store.zookeeper import announcement as zookeeper_announcement
from ovs_metadata.store.zookeeper.announcement import ZooKeeperAnnouncement
from ovs_metadata.store.zookeeper.lock import ephemeral_lock
from ovs_metadata.store.zookeeper.session import ZooKeeperSession

LOCK = "/locks/sync"
AGENT = "/agents/host-1"
SESSION, OTHER_SESSION = 77, 78


class Client:
    """Nodes by path, each with its content and the session it is bound to (0: none)."""

    def __init__(self) -> None:
        self.client_id = (SESSION, b"")
        self.nodes: dict[str, tuple[bytes, int]] = {VERSION_NODE: (version_content(), 0)}
        self.answers_late = 0
        self.handler = SimpleNamespace(
            timeout_exception=Late, event_object=threading.Event, sleep_func=pytest.fail
        )

    def create_async(
        self, path: str, data: bytes, *, ephemeral: bool = False, makepath: bool = False
    ) -> Result:
        def create() -> None:
            if path in self.nodes:
                raise NodeExistsError
            if not makepath and path.rpartition("/")[0] not in self.nodes:
                raise NoNodeError
            self.nodes[path] = (data, SESSION if ephemeral else 0)
            if self.answers_late:
                self.answers_late -= 1
                raise Late

        return Result(create)

    def set_async(self, path: str, data: bytes) -> Result:
        def write() -> None:
            if path not in self.nodes:
                raise NoNodeError
            self.nodes[path] = (data, 0)

        return Result(write)

    def get_async(self, path: str) -> Result:
        status = SimpleNamespace(version=0, last_modified=0.0)
        return Result(lambda: (self.nodes[path][0], status))

    def exists_async(self, path: str) -> Result:
        return Result(lambda: SimpleNamespace(ephemeralOwner=self.nodes[path][1]))

    def delete_async(self, path: str) -> Result:
        return Result(lambda: self.nodes.pop(path))


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def session(client: Client) -> ZooKeeperSession:
    session = ZooKeeperSession(client, "here", "")
    session.note_state(connected=True)
    return session


def test_a_lock_whose_answer_came_too_late_is_ours_the_next_time(
    client: Client, session: ZooKeeperSession
) -> None:
    client.answers_late = 1
    with pytest.raises(StoreUnavailable), ephemeral_lock(session, LOCK, 0.0):
        pass
    assert LOCK in client.nodes
    with ephemeral_lock(session, LOCK, 0.0) as held:
        assert held
    assert LOCK not in client.nodes


def test_a_lock_of_another_thread_of_the_session_is_not_ours(
    client: Client, session: ZooKeeperSession
) -> None:
    with ephemeral_lock(session, LOCK, 0.0) as first, ephemeral_lock(session, LOCK, 0.0) as other:
        assert first
        assert not other
    assert LOCK not in client.nodes
    with ephemeral_lock(session, LOCK, 0.0) as held:
        assert held


def test_a_lock_of_another_session_is_not_ours(client: Client, session: ZooKeeperSession) -> None:
    client.nodes[LOCK] = (b"", OTHER_SESSION)
    with ephemeral_lock(session, LOCK, 0.0) as held:
        assert not held
    assert client.nodes.pop(LOCK) == (b"", OTHER_SESSION)
    with ephemeral_lock(session, LOCK, 0.0) as held:
        assert held


@pytest.fixture
def announcement(session: ZooKeeperSession) -> Iterator[ZooKeeperAnnouncement]:
    with contextlib.closing(ZooKeeperAnnouncement(session, AGENT, b"here")) as announced:
        yield announced


def test_an_announcement_that_was_deleted_is_made_again(
    client: Client, announcement: ZooKeeperAnnouncement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zookeeper_announcement, "RETRY_INTERVAL", 0.01)
    marker = f"{AGENT}/alive-{SESSION:x}"
    wait_for(lambda: marker in client.nodes, "the announcement")
    del client.nodes[marker]
    del client.nodes[AGENT]
    announcement.wake()
    wait_for(lambda: marker in client.nodes, "the announcement made again")
    assert client.nodes[AGENT] == (b"here", 0)
