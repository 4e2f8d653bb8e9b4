"""Requests to ZooKeeper: replies that are lost, late or refusals. A client plays ZooKeeper."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    SessionExpiredError,
)
from kazoo.security import ACL, CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_acl

from ovs_metadata.store.errors import StoreError, StoreUnavailable, UnknownLayout
from ovs_metadata.store.layout import VERSION_NODE, version_content
from ovs_metadata.store.zookeeper import session as module
from ovs_metadata.store.zookeeper.session import Reservations, ZooKeeperSession, batches

ROOT = "/some/where"
NODE = "/config/nodes/hv1"


class Late(Exception):
    """The answer has not come in time."""


class Result:
    def __init__(self, client: Client, act: Callable[[], Any]) -> None:
        self._client = client
        self._act = act

    def get(self, timeout: float) -> Any:
        assert timeout == module.OPERATION_TIMEOUT
        return self._client.answer(self._act)


class Client:
    """Nodes by their whole path, each with its content and version.

    `lose` has, for the requests to come, whether the connection is lost and when.
    """

    def __init__(self) -> None:
        self.nodes = {ROOT + VERSION_NODE: (version_content(), 0)}
        self.acls: dict[str, list[ACL]] = {}
        self.lose: list[str] = []
        self.refusal: Exception | None = None
        self.under_way = self.most_under_way = 0
        self.slept = 0
        self.handler = SimpleNamespace(
            timeout_exception=Late, event_object=threading.Event, sleep_func=self._sleep
        )

    def _sleep(self, _seconds: float) -> None:
        self.slept += 1

    def answer(self, act: Callable[[], Any]) -> Any:
        self.under_way -= 1
        when = self.lose.pop(0) if self.lose else ""
        if when == "request":
            raise ConnectionLoss
        if self.refusal:
            raise self.refusal
        result = act()
        if when == "reply":
            raise SessionExpiredError
        return result

    def _request(self, act: Callable[[], Any]) -> Result:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return Result(self, act)

    def _node(self, path: str) -> tuple[bytes, int]:
        if path not in self.nodes:
            raise NoNodeError
        return self.nodes[path]

    def create_async(self, path: str, data: bytes, *, makepath: bool) -> Result:
        def create() -> None:
            assert makepath
            if path in self.nodes:
                raise NodeExistsError
            self.nodes[path] = (data, 0)

        return self._request(create)

    def set_async(self, path: str, data: bytes, version: int) -> Result:
        def write() -> None:
            if self._node(path)[1] != version:
                raise BadVersionError
            self.nodes[path] = (data, version + 1)

        return self._request(write)

    def get_async(self, path: str) -> Result:
        def read() -> tuple[bytes, Any]:
            data, version = self._node(path)
            return data, SimpleNamespace(version=version, last_modified=1.5)

        return self._request(read)

    def delete_async(self, path: str, version: int) -> Result:
        def remove() -> None:
            if self._node(path)[1] != version:
                raise BadVersionError
            if self._below(path):
                raise NotEmptyError
            del self.nodes[path]

        return self._request(remove)

    def get_children_async(self, path: str) -> Result:
        return self._request(lambda: self._node(path) and self._below(path))

    def exists_async(self, path: str) -> Result:
        def state() -> Any:
            return path in self.nodes and SimpleNamespace(numChildren=len(self._below(path)))

        return self._request(state)

    def get_acls_async(self, path: str) -> Result:
        return self._request(lambda: self._node(path) and (self.acls[path], None))

    def _below(self, path: str) -> list[str]:
        return [each.rpartition("/")[2] for each in self.nodes if each.startswith(f"{path}/")]


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def session(client: Client) -> ZooKeeperSession:
    session = ZooKeeperSession(client, "zk1:2181", ROOT)
    session.note_state(connected=True)
    return session


@pytest.mark.parametrize("version", [None, 0])
@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_write_whose_reply_was_lost_is_not_taken_for_anothers(
    client: Client, session: ZooKeeperSession, version: int | None, lost: str
) -> None:
    if version is not None:
        client.nodes[ROOT + NODE] = (b"before", version)
    client.lose = ["", lost]  # the layout is read first
    assert session.write(NODE, b"after", version)
    assert client.nodes[ROOT + NODE][0] == b"after"
    assert client.slept == 1


@pytest.mark.parametrize(
    ("there", "version"), [(b"anothers", None), (b"anothers", 6), (b"ours", None), (None, 3)]
)
def test_a_write_that_comes_too_late_changes_nothing(
    client: Client, session: ZooKeeperSession, there: bytes | None, version: int | None
) -> None:
    if there is not None:
        client.nodes[ROOT + NODE] = (there, 7)
    before = dict(client.nodes)
    assert not session.write(NODE, b"ours", version)
    assert client.nodes == before


def test_a_write_that_was_lost_and_came_too_late_has_not_been_done(
    client: Client, session: ZooKeeperSession
) -> None:
    client.nodes[ROOT + NODE] = (b"anothers", 7)
    client.lose = ["", "request"]
    assert not session.write(NODE, b"ours", 6)
    assert client.nodes[ROOT + NODE] == (b"anothers", 7)


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_removal_whose_reply_was_lost_has_been_done(
    client: Client, session: ZooKeeperSession, lost: str
) -> None:
    client.nodes[ROOT + NODE] = (b"", 3)
    client.lose = ["", lost]
    assert session.delete(NODE, 3)
    assert ROOT + NODE not in client.nodes


@pytest.mark.parametrize(
    "nodes", [{}, {NODE: (b"", 4)}, {NODE: (b"", 3), NODE + "/below": (b"", 0)}]
)
def test_what_is_not_there_has_changed_or_has_children_is_not_removed(
    client: Client, session: ZooKeeperSession, nodes: dict[str, tuple[bytes, int]]
) -> None:
    client.nodes |= {ROOT + path: node for path, node in nodes.items()}
    before = dict(client.nodes)
    assert not session.delete(NODE, 3)
    assert client.nodes == before


def test_a_node_is_read_with_its_version_and_time(
    client: Client, session: ZooKeeperSession
) -> None:
    assert session.read(NODE) is None
    client.nodes[ROOT + NODE] = (b"text", 3)
    node = session.read(NODE)
    assert node is not None
    assert (node.data, node.version, node.changed) == (b"text", 3, 1.5)


def test_many_nodes_are_read_in_batches(client: Client, session: ZooKeeperSession) -> None:
    paths = [f"{NODE}-{number}" for number in range(2 * module.BATCH + 1)]
    assert [len(batch) for batch in batches(paths)] == [module.BATCH, module.BATCH, 1]
    client.nodes |= {ROOT + path: (path.encode(), 0) for path in paths[1:]}
    read = list(session.read_many(paths))
    assert [node.data.decode() for node in read if node] == paths[1:]
    assert read[0] is None
    assert client.most_under_way == module.BATCH


def test_children_are_sorted_and_a_node_that_is_not_there_has_none(
    client: Client, session: ZooKeeperSession
) -> None:
    assert session.children(NODE) == []
    client.nodes |= {ROOT + path: (b"", 0) for path in (NODE, NODE + "/b", NODE + "/a")}
    assert session.children(NODE) == ["a", "b"]
    assert list(session.with_children(["/nothing", NODE, NODE + "/a"])) == [NODE]


@pytest.mark.parametrize(
    ("entries", "readable"),
    [
        (OPEN_ACL_UNSAFE, True),
        (READ_ACL_UNSAFE, True),
        (CREATOR_ALL_ACL, False),
        ([*CREATOR_ALL_ACL, *READ_ACL_UNSAFE], True),
        ([make_acl("world", "anyone", create=True)], False),
        ([make_acl("digest", "anyone", read=True)], False),
    ],
)
def test_a_node_is_world_readable_if_the_world_may_read_it(
    client: Client, session: ZooKeeperSession, entries: list[ACL], readable: bool
) -> None:
    assert not session.is_world_readable(NODE)
    client.nodes[ROOT + NODE] = (b"", 0)
    client.acls[ROOT + NODE] = entries
    assert session.is_world_readable(NODE) is readable


@pytest.mark.parametrize(
    ("refusal", "error", "text"),
    [
        (NoAuthError(), StoreError, "denies access to a node: check the credentials"),
        (BadArgumentsError(), StoreError, "zk1:2181: BadArgumentsError()"),
        (KazooException(), StoreError, "zk1:2181: KazooException()"),
        (Late(), StoreUnavailable, "no ZooKeeper answers at zk1:2181 within 10 s"),
    ],
)
def test_a_refusal_names_the_servers_and_the_reason(
    client: Client,
    session: ZooKeeperSession,
    refusal: Exception,
    error: type[StoreError],
    text: str,
) -> None:
    client.refusal = refusal
    with pytest.raises(error, match=text.replace("(", r"\(").replace(")", r"\)")) as caught:
        session.read(NODE)
    assert isinstance(caught.value, StoreUnavailable) is (error is StoreUnavailable)


def test_a_closed_store_asks_nothing(client: Client, session: ZooKeeperSession) -> None:
    session.closing = True
    client.refusal = AssertionError("it asked")
    with pytest.raises(StoreUnavailable, match="the store has been closed"):
        session.read(NODE)


def test_without_a_connection_nothing_is_asked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPERATION_TIMEOUT", 0.01)
    session = ZooKeeperSession(client, "zk1:2181", ROOT)
    with pytest.raises(StoreUnavailable, match="no ZooKeeper answers"):
        session.read(NODE)
    assert client.most_under_way == 0


def test_the_layout_is_checked_once_in_a_connection(
    client: Client, session: ZooKeeperSession
) -> None:
    session.read(NODE)
    client.nodes[ROOT + VERSION_NODE] = (b'{"layout": 99}', 1)
    session.read(NODE)
    session.note_state(connected=True)
    with pytest.raises(UnknownLayout):
        session.read(NODE)


def test_the_first_write_makes_the_layout(client: Client, session: ZooKeeperSession) -> None:
    client.nodes.clear()
    assert session.read(NODE) is None
    assert not client.nodes
    assert session.write(NODE, b"", None)
    assert client.nodes[ROOT + VERSION_NODE] == (version_content(), 0)


def test_the_time_without_a_connection_is_counted_from_its_loss(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    session = ZooKeeperSession(client, "zk1:2181", ROOT)
    now = 102.0
    assert session.disconnected_for() == 2.0
    session.note_state(connected=True)
    assert session.disconnected_for() == 0.0
    session.note_state(connected=False)
    now = 105.0
    session.note_state(connected=False)
    assert session.disconnected_for() == 3.0


def test_paths_are_below_the_chroot_in_zookeeper_alone(session: ZooKeeperSession) -> None:
    assert session.path(NODE) == "/some/where/config/nodes/hv1"
    assert session.layout_path("/some/where/config/nodes/hv1") == NODE


def test_a_lock_is_reserved_by_one_thread_at_a_time() -> None:
    locks = Reservations()
    assert locks.reserve("/locks/a")
    assert not locks.reserve("/locks/a")
    assert locks.reserve("/locks/b")
    locks.release("/locks/a")
    assert locks.reserve("/locks/a")
