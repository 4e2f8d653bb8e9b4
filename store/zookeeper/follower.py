"""Follows nodes in ZooKeeper: one watch per node, reads in batches.

A watch fires once; the read that it causes sets it again. kazoo drops all watches with the
connection, and does not set them again on the next one, so a new connection reads everything again.
The only state is the set of keys to read. A key that cannot be read stays in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from kazoo.exceptions import NoNodeError

from ovs_metadata.store.follower import ThreadedFollower
from ovs_metadata.store.interface import FatalCallback
from ovs_metadata.store.node_type import NodeType
from ovs_metadata.store.snapshot import CachedNode, Snapshot
from ovs_metadata.store.zookeeper.session import (
    BATCH,
    CONNECTION_ERRORS,
    ZooKeeperSession,
    batches,
)

READ_TIMEOUT = 60.0
"""Seconds after which a read counts as failed. A lost connection or a silent server ends it long
before. A server that is busy, because all agents of a deployment return at once, would only become
busier by repeated reads."""

SYNC_TIMEOUT = 5.0
"""Seconds that a sync may take before it is repeated."""

RETRY_INTERVAL = 1.0
"""Seconds before a failed read is repeated."""

SNAPSHOT_DELAY = 1.0
"""Seconds without a connection after which unread keys are reported from the snapshot. Longer than
an ordinary connect, because the snapshot may be out of date; shorter than a guest waits for an
identity."""

SPARE_WATCHES = 100
"""Watches of dropped nodes that are tolerated. Most of them disappear with the node; a comparison
each time would cost more."""

S = TypeVar("S")


class ZooKeeperFollower(ThreadedFollower[S]):
    """A `Follower` by watches.

    It catches up by a sync of its server with ZooKeeper's leader. A server writes to a connection
    in the order of transactions (ZooKeeper Programmer's Guide, "ZooKeeper Watches"), so the events
    of everything that was written before the sync come before its answer.

    Args:
        session: of one client; its owner calls `read_all` on each new connection.
        node_type: the type of the followed nodes.
        listener: called with each new state.
        on_fatal: called if the layout is of an unknown version.
        snapshot: of the followed nodes; None keeps none.
    """

    confirms_cheaply = False

    def __init__(
        self,
        session: ZooKeeperSession,
        node_type: NodeType[S],
        listener: Callable[[str, S], None],
        on_fatal: FatalCallback | None,
        snapshot: Snapshot | None,
    ) -> None:
        super().__init__(node_type, listener, on_fatal)
        self._session = session
        self._client = session.client
        self._snapshot = snapshot
        # Added to and taken from by several threads; each is a single operation of a set.
        self._to_read: set[str] = set()
        self._thread.start()

    def read_all(self) -> None:
        """Read all keys again: a new connection has no watches. Does not block."""
        self._added(self._listener_state.keys())
        self._wake.set()

    def set_ports(self, port_ids: Collection[str]) -> None:
        """See `Follower`."""
        before = self._listener_state.keys()
        super().set_ports(port_ids)
        for key in before.difference(port_ids):
            self._release(key)

    def close(self) -> None:
        """See `Follower`."""
        super().close()
        if self._snapshot:
            self._snapshot.save(now=True)

    def _added(self, keys: set[str]) -> None:
        self._to_read.update(keys)

    def _pause(self) -> float | None:
        pauses = [RETRY_INTERVAL] if self._to_read or self._unconfirmed.qsize() else []
        if self._snapshot:
            due = self._snapshot.save()
            pauses += [] if due is None else [due]
            if self._session.disconnected_for() and self._listener_state.unreported():
                pauses.append(SNAPSHOT_DELAY / 4)
        return min(pauses, default=None)

    def _catch_up(self) -> bool:
        try:
            if self._client.connected:
                self._session.sync(SYNC_TIMEOUT)
        except self._session.failures:
            return not self._client.connected
        return True

    def _caught_up(self) -> bool:
        return not self._to_read or not self._client.connected

    def _read(self) -> set[str]:
        if self._snapshot and self._session.disconnected_for() > SNAPSHOT_DELAY:
            self._report_from(self._snapshot)
        while self._to_read and self._client.connected and not self.closed:
            batch = self._take_batch()
            try:
                self._session.check_layout(READ_TIMEOUT)
                failed = self._read_batch(batch)
            except self._session.failures as error:
                self._to_read.update(batch)
                return _problem(error)
            if failed:
                return failed
        return self._forget_watches()

    def _forget_watches(self) -> set[str]:
        """Remove the watches of dropped nodes, once there are many."""
        if not self._client.connected or self.closed:
            return set()
        watches = self._session.watches
        keys = self._listener_state.keys()
        followed = {self._node(key) for key in keys if self._node_type.is_key(key)}
        left = watches.of(self._on_watch) - followed
        try:
            for batch in batches(sorted(left)) if len(left) > SPARE_WATCHES else ():
                watches.forget(batch, self._on_watch, READ_TIMEOUT)
        except self._session.failures as error:
            return _problem(error)
        return set()

    def _report_from(self, snapshot: Snapshot) -> None:
        for key in filter(self._node_type.is_key, self._listener_state.unreported()):
            known = snapshot.get(self._node_type.path_of(key))
            if known is not None:
                self._listener_state.report(key, known.data)

    def _take_batch(self) -> list[str]:
        """Take up to BATCH of the keys to read; those no longer followed are dropped."""
        batch: list[str] = []
        while self._to_read and len(batch) < BATCH:
            # Removed before the check: a key is followed before it is added to this set.
            key = self._to_read.pop()
            if not self._node_type.is_key(key):
                self._listener_state.report(key, None)
            elif self._listener_state.follows(key):
                batch.append(key)
        return batch

    def _read_batch(self, batch: list[str]) -> set[str]:
        """Read these nodes in one batch, and report their states."""
        problems: set[str] = set()
        absent = []
        reads = [(key, self._session.watches.get(self._node(key), self._on_watch)) for key in batch]
        for key, read in reads:
            try:
                data, _ = self._session.wait(read, READ_TIMEOUT)
            except NoNodeError:
                absent.append(key)
            except self._session.failures as error:
                self._to_read.add(key)
                problems |= _problem(error, self._node_type.path_of(key))
            else:
                self._note(key, data)
        return problems | self._await_creation(absent)

    def _await_creation(self, absent: list[str]) -> set[str]:
        """Set watches for the creation of nodes: a read of an absent node sets none."""
        problems: set[str] = set()
        checks = [
            (key, self._session.watches.exists(self._node(key), self._on_watch)) for key in absent
        ]
        for key, check in checks:
            try:
                appeared = self._session.wait(check, READ_TIMEOUT)
            except self._session.failures as error:
                self._to_read.add(key)
                problems |= _problem(error, self._node_type.path_of(key))
                continue
            if appeared:
                self._to_read.add(key)
            else:
                self._note(key, None)
        return problems

    def _note(self, key: str, data: bytes | None) -> None:
        if self._snapshot:
            keep = data is not None or self._node_type.absence_is_news
            self._snapshot.put(self._node_type.path_of(key), CachedNode(data) if keep else None)
            if not self._listener_state.follows(key):
                self._release(key)
        self._listener_state.report(key, data)

    def _release(self, key: str) -> None:
        if self._snapshot and self._node_type.is_key(key):
            self._snapshot.unpin(self._node_type.path_of(key))

    def _node(self, key: str) -> str:
        return self._session.path(self._node_type.path_of(key))

    def _on_watch(self, event: Any) -> None:
        """A followed node has changed. Runs in kazoo's callback thread."""
        # An event without a path means that the connection is lost, and the watch with it.
        if event.path:
            self._session.watches.fired(event.path)
            self._to_read.add(self._node_type.key_of(self._session.layout_path(event.path)))
            self._wake.set()


def _problem(error: Exception, path: str | None = None) -> set[str]:
    """The problem of a failed read; none for a lost connection, which the store itself logs."""
    if isinstance(error, CONNECTION_ERRORS):
        return set()
    return {f"ZooKeeper: {path or 'the version of the layout'} cannot be read: {error!r}"}
