"""What a follower on ZooKeeper reads, when what is followed changes at the same time."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from contracts.store_support import StateRecorder, record
from kazoo.exceptions import NoNodeError

from lab.rig.process import wait_for
from ovs_metadata.store.layout import VERSION_NODE, version_content
from ovs_metadata.store.node_type import PORTS
from ovs_metadata.store.zookeeper import follower as zookeeper_follower
from ovs_metadata.store.zookeeper.follower import ZooKeeperFollower
from ovs_metadata.store.zookeeper.session import OPERATION_TIMEOUT, ZooKeeperSession

FIRST, LATE = record(1), record(2)


class Late(Exception):
    """The answer has not come in time."""


class Result:
    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome

    def get(self, timeout: float) -> Any:
        assert timeout
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome, SimpleNamespace(version=0, last_modified=0.0)


class Client:
    """A connected client, of a ZooKeeper that has these records."""

    connected = True
    handler = SimpleNamespace(
        timeout_exception=Late, event_object=threading.Event, sleep_func=lambda _: None
    )

    def get_async(self, path: str, watch: Any = None) -> Result:  # noqa: ARG002 - kazoo's
        for each in (FIRST, LATE):
            if each.port_id in path:
                return Result(each.to_json())
        return Result(version_content() if path == VERSION_NODE else NoNodeError())


def test_a_port_added_while_others_are_being_read_is_read_too() -> None:
    received = StateRecorder()
    session = ZooKeeperSession(cast("Any", Client()), "zk1:2181", "")
    session.note_state(connected=True)

    def is_port_id(key: str) -> bool:
        """As OVSDB's thread may at any moment."""
        if key == FIRST.port_id and follower.closed is False:
            follower.set_ports([FIRST.port_id, LATE.port_id])
        return True

    kind = replace(PORTS, is_key=is_port_id)
    follower = ZooKeeperFollower(session, kind, received, None, None)
    follower.set_ports([FIRST.port_id])
    wait_for(lambda: len(received.calls) == 2, "both states")
    assert sorted(received.calls) == sorted([(FIRST.port_id, FIRST), (LATE.port_id, LATE)])
    follower.close()


def test_many_are_read_some_at_a_time_and_what_is_no_port_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zookeeper_follower, "BATCH", 2)
    records = [record(number) for number in range(1, 6)]
    asked: list[str] = []
    waiting, most = 0, 0

    class Counted(Result):
        def get(self, timeout: float) -> Any:
            nonlocal waiting
            waiting -= 1
            return super().get(timeout)

    class Counting(Client):
        def get_async(self, path: str, watch: Any = None) -> Result:
            nonlocal waiting, most
            if path != VERSION_NODE:
                asked.append(path.rpartition("/")[2])
            waiting += 1
            most = max(most, waiting)
            stored = {each.port_id: each.to_json() for each in records}
            if (data := stored.get(path.rpartition("/")[2])) is not None:
                return Counted(data)
            return Counted(super().get_async(path, watch)._outcome)

    received = StateRecorder()
    session = ZooKeeperSession(cast("Any", Counting()), "zk1:2181", "")
    session.note_state(connected=True)
    follower = ZooKeeperFollower(session, PORTS, received, None, None)
    ports = [each.port_id for each in records]
    follower.set_ports([*ports, "tap1"])
    wait_for(lambda: len(received.calls) == 6, "all six states")
    follower.close()
    assert sorted(asked) == sorted(ports)
    assert most == 2
    assert dict(received.calls)["tap1"] is None


@pytest.mark.parametrize(("given", "seconds"), [(None, OPERATION_TIMEOUT), (3.0, 3.0), (0.0, 0.0)])
def test_an_answer_may_take_as_long_as_the_timeout(given: float | None, seconds: float) -> None:
    waited: list[float] = []

    def get(*, timeout: float) -> None:
        waited.append(timeout)

    result = SimpleNamespace(get=get)
    ZooKeeperSession(cast("Any", Client()), "zk1:2181", "").wait(result, given)
    assert waited == [seconds]
