"""Follows ports in ZooKeeper: one watch per port, reads in batches.

A watch fires once and is set again by the read that it causes. kazoo forgets all watches when the
connection is lost, and does not set them again on the next: then everything is read anew. So the
only state is the set of ports to be read. What cannot be read stays in it.
"""

from collections.abc import Callable
from typing import Any

from kazoo.exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoNodeError,
    SessionExpiredError,
)

from ovs_metadata.store import layout
from ovs_metadata.store.follower import ThreadedFollower
from ovs_metadata.store.interface import FatalCallback, Listener
from ovs_metadata.store.record import is_port_id

BATCH = 100
"""Reads under way at once. Requests wake kazoo's connection thread by one byte each through a
socket pair, which takes no more than some hundreds of them before it blocks."""

READ_TIMEOUT = 10.0
"""Seconds after which a read counts as failed; a lost connection fails it at once."""

RETRY_INTERVAL = 1.0
"""Seconds after which what could not be read is tried again."""

_CONNECTION_ERRORS = (ConnectionLoss, SessionExpiredError, ConnectionClosedError)


class ZooKeeperFollower(ThreadedFollower):
    """A `Follower` by watches.

    Args:
        client: a KazooClient; whoever owns it calls `read_all` on each new connection.
        path: the node's path for one of the layout.
        check_layout: raises UnknownLayout or a KazooException.
        listener: what to tell.
        on_fatal: told when the layout is of an unknown version.
    """

    def __init__(
        self,
        client: Any,
        path: Callable[[str], str],
        check_layout: Callable[[], object],
        listener: Listener,
        on_fatal: FatalCallback | None,
    ) -> None:
        super().__init__(listener, on_fatal)
        self._client = client
        self._path = path
        self._check_layout = check_layout
        # Added to and taken from by several threads; each is a single operation of a set.
        self._to_read: set[str] = set()
        # What a failed read may raise: an error of ZooKeeper's, or the handler's own timeout.
        self._failures = (KazooException, client.handler.timeout_exception)
        self._thread.start()

    def read_all(self) -> None:
        """Read every port anew: a new connection has no watches. Does not block."""
        self._added(self._reports.ports())
        self._wake.set()

    def _added(self, port_ids: set[str]) -> None:
        self._to_read.update(port_ids)

    def _pause(self) -> float | None:
        return RETRY_INTERVAL if self._to_read else None

    def _read(self) -> set[str]:
        while self._to_read and self._client.connected and not self._closed:
            batch = self._take_batch()
            try:
                self._check_layout()
                failed = self._read_batch(batch)
            except self._failures as error:
                self._to_read.update(batch)
                return _problem(error)
            if failed:
                return failed
        return set()

    def _take_batch(self) -> list[str]:
        """Take up to BATCH ports out of those to be read; those no longer followed are dropped."""
        followed = self._reports.ports()
        batch: list[str] = []
        while self._to_read and len(batch) < BATCH:
            port_id = self._to_read.pop()
            if not is_port_id(port_id):
                self._reports.tell(port_id, None)
            elif port_id in followed:
                batch.append(port_id)
        return batch

    def _read_batch(self, batch: list[str]) -> set[str]:
        """Read these ports' nodes, all at once, and tell what they hold."""
        problems: set[str] = set()
        absent = []
        reads = [
            (port_id, self._client.get_async(self._node(port_id), watch=self._on_watch))
            for port_id in batch
        ]
        for port_id, read in reads:
            try:
                data, _ = read.get(timeout=READ_TIMEOUT)
            except NoNodeError:
                absent.append(port_id)
            except self._failures as error:
                self._to_read.add(port_id)
                problems |= _problem(error, port_id)
            else:
                self._reports.tell(port_id, data)
        return problems | self._await_creation(absent)

    def _await_creation(self, absent: list[str]) -> set[str]:
        """Set watches for nodes to appear: reading a node that is not there sets none."""
        problems: set[str] = set()
        checks = [
            (port_id, self._client.exists_async(self._node(port_id), watch=self._on_watch))
            for port_id in absent
        ]
        for port_id, check in checks:
            try:
                appeared = check.get(timeout=READ_TIMEOUT)
            except self._failures as error:
                self._to_read.add(port_id)
                problems |= _problem(error, port_id)
                continue
            if appeared:
                self._to_read.add(port_id)
            else:
                self._reports.tell(port_id, None)
        return problems

    def _node(self, port_id: str) -> str:
        return self._path(layout.port_path(port_id))

    def _on_watch(self, event: Any) -> None:
        """Something happened to a followed node. Runs in kazoo's callback thread."""
        # Without a path it is kazoo's word that the connection, and the watch with it, is gone.
        if event.path:
            self._to_read.add(event.path.rpartition("/")[2])
            self._wake.set()


def _problem(error: Exception, port_id: str | None = None) -> set[str]:
    """What to log of a failed read: nothing of a lost connection, which the store itself logs."""
    if isinstance(error, _CONNECTION_ERRORS):
        return set()
    what = f"port {port_id}" if port_id else "the layout's version"
    return {f"ZooKeeper: {what} cannot be read: {error!r}"}
