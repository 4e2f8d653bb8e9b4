"""Requests to ZooKeeper: bounded in time, repeated when the connection is lost.

No threads: they wait in the caller's. The chroot is prepended here and not left to kazoo, which
cannot make one of several levels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kazoo.exceptions import (
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    SessionExpiredError,
)
from kazoo.protocol.states import Callback
from kazoo.retry import RetryFailedError
from kazoo.security import Permissions

from ovs_metadata.store import layout
from ovs_metadata.store.errors import StoreError, StoreUnavailable
from ovs_metadata.store.nodes import Node
from ovs_metadata.store.zookeeper.client import make_retry
from ovs_metadata.store.zookeeper.watches import Watches

OPERATION_TIMEOUT = 10.0
"""Seconds an operation may take before it fails as StoreUnavailable."""

BATCH = 100
"""Requests under way at once. They wake kazoo's connection thread by one byte each through a
socket pair, which takes no more than some hundreds of them before it blocks."""

CONNECTION_ERRORS = (ConnectionLoss, SessionExpiredError, ConnectionClosedError)
"""Exceptions of a request that loses its connection."""

T = TypeVar("T")


def batches(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    """The paths, in batches that one round of requests may have."""
    return (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))


class Reservations:
    """The locks that threads of one client hold or are about to take, all in one session.

    Any thread; nothing blocks for long.
    """

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._guard = threading.Lock()

    def reserve(self, path: str) -> bool:
        """Reserve a lock for the caller; False if another thread has it."""
        with self._guard:
            free = path not in self._paths
            self._paths.add(path)
        return free

    def release(self, path: str) -> None:
        """Release a reservation."""
        with self._guard:
            self._paths.discard(path)


class ZooKeeperSession:
    """The requests of one client, all below one chroot.

    Args:
        client: a KazooClient; its owner calls `note_state`.
        hosts: where it connects, for messages.
        chroot: "" or "/some/where".
    """

    def __init__(self, client: Any, hosts: str, chroot: str) -> None:
        self.client = client
        self.watches = Watches(client)
        self.locks = Reservations()
        self.closing = False
        self.failures = (KazooException, client.handler.timeout_exception)
        """Exceptions of a wait for a request: an error of ZooKeeper, or the handler's own."""
        self._hosts = hosts
        self._chroot = chroot
        # Whether the layout was checked on this connection.
        self._checked = False
        self._disconnected_at: float | None = time.monotonic()
        self._connected = client.handler.event_object()

    def note_state(self, *, connected: bool) -> None:
        """A connection was made, or lost. Any thread, does not block."""
        if connected:
            self._checked = False
            self.watches.reset()
            self._disconnected_at = None
            self._connected.set()
        elif self._disconnected_at is None:
            self._disconnected_at = time.monotonic()

    def disconnected_for(self) -> float:
        """Seconds since the connection was lost, 0 while there is one."""
        since = self._disconnected_at
        return 0.0 if since is None else time.monotonic() - since

    def path(self, path: str) -> str:
        """The node's path for one of the layout."""
        return self._chroot + path

    def layout_path(self, path: str) -> str:
        """The layout's path for a node's."""
        return path.removeprefix(self._chroot)

    # Whole operations: they raise StoreError.

    def read(self, path: str) -> Node | None:
        """See `Nodes`."""

        def read() -> Node | None:
            self.check_layout()
            return self._read(path)

        return self.run(read)

    def read_many(self, paths: Sequence[str]) -> Iterator[Node | None]:
        """See `Nodes`."""
        for batch in batches(paths):
            yield from self.run(lambda batch=batch: self._read_batch(batch))  # type: ignore[misc]

    def children(self, path: str) -> list[str]:
        """See `Nodes`."""

        def read() -> list[str]:
            self.check_layout()
            try:
                return sorted(self.wait(self.client.get_children_async(self.path(path))))
            except NoNodeError:
                return []

        return self.run(read)

    def with_children(self, paths: Sequence[str]) -> Iterator[str]:
        """Those of the nodes that are there and have others below them."""
        for batch in batches(paths):
            states = self.run(lambda batch=batch: self._states(batch))  # type: ignore[misc]
            found = zip(batch, states)
            yield from (path for path, state in found if state and state.numChildren)

    def write(self, path: str, data: bytes, version: int | None) -> bool:
        """See `Nodes`."""
        attempted = False

        def write() -> bool:
            nonlocal attempted
            self.make_layout()
            try:
                self._write(path, data, version)
            except (NodeExistsError, BadVersionError, NoNodeError):
                # An earlier attempt, whose reply was lost with the connection, may have written it.
                node = self._read(path) if attempted else None
                return node is not None and node.data == data
            except CONNECTION_ERRORS:
                attempted = True
                raise
            return True

        return self.run(write)

    def delete(self, path: str, version: int) -> bool:
        """See `Nodes`."""
        attempted = False

        def remove() -> bool:
            nonlocal attempted
            self.check_layout()
            try:
                self.wait(self.client.delete_async(self.path(path), version))
            except NoNodeError:
                # An earlier attempt, whose reply was lost with the connection, deleted it.
                return attempted
            except (BadVersionError, NotEmptyError):
                return False
            except CONNECTION_ERRORS:
                attempted = True
                raise
            return True

        return self.run(remove)

    def is_world_readable(self, path: str) -> bool:
        """See `Nodes`."""

        def read() -> bool:
            self.check_layout()
            try:
                entries, _ = self.wait(self.client.get_acls_async(self.path(path)))
            except NoNodeError:
                return False
            return any(
                each.id.scheme == "world" and each.perms & Permissions.READ for each in entries
            )

        return self.run(read)

    def run(self, operation: Callable[[], T]) -> T:
        """Run an operation; repeat it after a lost connection, for a bounded time.

        Raises:
            StoreUnavailable: no answer in time.
            StoreError: ZooKeeper refuses it.
        """
        retry = make_retry(self.client.handler, max_delay=1.0, deadline=OPERATION_TIMEOUT)
        try:
            if not self.closing and self._connected.wait(OPERATION_TIMEOUT):
                result: T = retry(operation)
                return result
        except NoAuthError as error:
            raise StoreError(
                f"ZooKeeper at {self._hosts} denies access to a node: check the credentials"
            ) from error
        except (
            RetryFailedError,
            ConnectionClosedError,
            self.client.handler.timeout_exception,
        ) as error:
            raise self._unavailable() from error
        except KazooException as error:
            raise StoreError(f"ZooKeeper at {self._hosts}: {error!r}") from error
        raise self._unavailable()

    # Parts of operations: they raise what is in `failures`.

    def check_layout(self, timeout: float | None = None) -> bool:
        """Whether there is a layout; raises UnknownLayout if it is of another version."""
        if self._checked:
            return True
        node = self._node(self.client.get_async(self.path(layout.VERSION_NODE)), timeout)
        if node is not None:
            layout.check_version(node.data)
            self._checked = True
        return node is not None

    def wait(self, result: Any, timeout: float | None = None) -> Any:
        """Wait for the answer to a request, so many seconds; None: what an operation may take."""
        return result.get(timeout=OPERATION_TIMEOUT if timeout is None else timeout)

    def sync(self, timeout: float) -> None:
        """Return once all events of what was written before this call have been handled."""
        handler = self.client.handler
        self.wait(self.client.sync_async("/"), timeout)
        # kazoo handles events one at a time, in the order of a queue.
        handled = handler.event_object()
        handler.dispatch_callback(Callback("watch", handled.set, ()))
        if not handled.wait(timeout):
            raise handler.timeout_exception(f"events are not handled within {timeout:g} s")

    def make_layout(self) -> None:
        """Write the layout's version unless it is there."""
        if not self.check_layout():
            try:
                self._write(layout.VERSION_NODE, layout.version_content(), None)
            except NodeExistsError:
                self.check_layout()

    def _read(self, path: str) -> Node | None:
        return self._node(self.client.get_async(self.path(path)))

    def _read_batch(self, paths: Sequence[str]) -> list[Node | None]:
        self.check_layout()
        results = [self.client.get_async(self.path(path)) for path in paths]
        return [self._node(result) for result in results]

    def _states(self, paths: Sequence[str]) -> list[Any]:
        self.check_layout()
        results = [self.client.exists_async(self.path(path)) for path in paths]
        return [self.wait(result) for result in results]

    def _node(self, result: Any, timeout: float | None = None) -> Node | None:
        try:
            data, status = self.wait(result, timeout)
        except NoNodeError:
            return None
        return Node(data, status.version, status.last_modified)

    def _write(self, path: str, data: bytes, version: int | None) -> None:
        if version is None:
            self.wait(self.client.create_async(self.path(path), data, makepath=True))
        else:
            self.wait(self.client.set_async(self.path(path), data, version))

    def _unavailable(self) -> StoreUnavailable:
        if self.closing:
            return StoreUnavailable("the store has been closed")
        return StoreUnavailable(
            f"no ZooKeeper answers at {self._hosts} within {OPERATION_TIMEOUT:g} s"
        )
