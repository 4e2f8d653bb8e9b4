"""What a follower on ZooKeeper reads, when what is followed changes at the same time."""

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from kazoo.exceptions import NoNodeError

from lab.process import wait_for
from lab.store_support import Told, record
from ovs_metadata.store.kind import PORTS
from ovs_metadata.store.layout import VERSION_NODE, version_content
from ovs_metadata.store.zookeeper_follower import ZooKeeperFollower
from ovs_metadata.store.zookeeper_requests import Requests

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
    told = Told()
    requests = Requests(cast("Any", Client()), "zk1:2181", "")
    requests.note_state(connected=True)

    def is_port_id(key: str) -> bool:
        """As OVSDB's thread may at any moment."""
        if key == FIRST.port_id and follower.closed is False:
            follower.set_ports([FIRST.port_id, LATE.port_id])
        return True

    kind = replace(PORTS, is_key=is_port_id)
    follower = ZooKeeperFollower(requests, kind, told, None, None)
    follower.set_ports([FIRST.port_id])
    wait_for(lambda: len(told.calls) == 2, "both to be told")
    assert sorted(told.calls) == sorted([(FIRST.port_id, FIRST), (LATE.port_id, LATE)])
    follower.close()
