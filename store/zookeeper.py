"""The store in ZooKeeper, through kazoo: a deployment's.

kazoo runs a connection thread and two callback threads per client (greenlets in a process patched
by eventlet). Nothing here blocks those: operations wait in the caller's thread, followers read in
their own. All of them end in `close`.

The chroot is prepended here and not left to kazoo, which cannot make one of several levels.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from kazoo.exceptions import (
    BadVersionError,
    ConnectionClosedError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
)
from kazoo.protocol.states import KazooState
from kazoo.retry import RetryFailedError

from ovs_metadata.store import layout
from ovs_metadata.store.errors import (
    MalformedRecord,
    RecordNotFound,
    StoreError,
    StoreUnavailable,
)
from ovs_metadata.store.interface import FatalCallback, Follower, Listener
from ovs_metadata.store.record import PortRecord, is_port_id
from ovs_metadata.store.revision import Outcome, Stored, may_delete, outcome_of_put
from ovs_metadata.store.zookeeper_client import OncePerOutage, make_client, make_retry
from ovs_metadata.store.zookeeper_follower import ZooKeeperFollower

LOG = logging.getLogger(__name__)

OPERATION_TIMEOUT = 10.0
"""Seconds an operation may take before it fails as StoreUnavailable."""

T = TypeVar("T")


class _Node(NamedTuple):
    """A node's content and version (ZooKeeper's own count of writes to it)."""

    data: bytes
    version: int


class ZooKeeperStore:
    """A `Store` on a ZooKeeper ensemble.

    After StoreUnavailable it is not known whether a write took place; repeating it is safe.

    Args:
        hosts: "host:port,host:port".
        chroot: the node below which everything is, "" or "/some/where".
        wait: seconds to wait for the connection; None connects in the background.
        on_fatal: told when a follower gives up.

    Raises:
        StoreUnavailable: no connection within `wait`.
        UnknownLayout: the layout is of another version (with `wait` only: without, followers and
            operations find out).
    """

    def __init__(
        self,
        hosts: str,
        chroot: str = "",
        *,
        wait: float | None = 10.0,
        on_fatal: FatalCallback | None = None,
    ) -> None:
        self._hosts = hosts
        self._chroot = chroot
        self._on_fatal = on_fatal
        self._followers: list[ZooKeeperFollower] = []
        self._closing = False
        # Whether the layout was checked on this connection.
        self._checked = False
        self._outage = OncePerOutage()
        self._client = make_client(hosts, LOG, self._outage)
        self._client.add_listener(self._on_state)
        self._connected = self._client.start_async()
        if wait is None:
            LOG.info("connecting to ZooKeeper at %s in the background", hosts)
            return
        try:
            if not self._connected.wait(wait):
                raise StoreUnavailable(f"no ZooKeeper answers at {hosts} within {wait:g} s")
            self._run(self._check_layout)
        except StoreError:
            self.close()
            raise

    def get(self, port_id: str) -> PortRecord:
        """See `Store`."""
        if not is_port_id(port_id):
            raise RecordNotFound(port_id)

        def read() -> _Node | None:
            self._check_layout()
            return self._read(layout.port_path(port_id))

        node = self._run(read)
        if node is None:
            raise RecordNotFound(port_id)
        return PortRecord.from_json(port_id, node.data)

    def put(self, record: PortRecord, *, force: bool = False) -> bool:
        """See `Store`."""
        path = layout.port_path(record.port_id)
        data = record.to_json()

        def write() -> bool:
            self._make_layout()
            while True:
                node = self._read(path)
                outcome = outcome_of_put(_stored(record.port_id, node), record, force=force)
                if outcome is not Outcome.WRITE:
                    return outcome is Outcome.SAME
                try:
                    self._write(path, data, node)
                except (NodeExistsError, BadVersionError, NoNodeError):
                    # Somebody else wrote in between: decide again.
                    continue
                return True

        return self._run(write)

    def delete(self, port_id: str, revision_number: int | None = None) -> bool:
        """See `Store`."""
        if not is_port_id(port_id):
            return False
        path = layout.port_path(port_id)
        attempted = False

        def remove() -> bool:
            nonlocal attempted
            self._check_layout()
            while True:
                node = self._read(path)
                if node is None or not may_delete(_stored(port_id, node), revision_number):
                    # Gone after an attempt whose answer was lost with the connection: it was ours.
                    return attempted and node is None
                try:
                    attempted = True
                    self._await(self._client.delete_async(self._path(path), node.version))
                except (BadVersionError, NoNodeError):
                    attempted = False
                    continue
                return True

        return self._run(remove)

    def port_ids(self) -> Iterator[str]:
        """See `Store`."""
        self._run(self._check_layout)
        for shard in self._children(layout.PORTS):
            yield from filter(is_port_id, self._children(layout.shard_path(shard)))

    def follow(self, listener: Listener) -> Follower:
        """See `Store`."""
        follower = ZooKeeperFollower(
            self._client, self._path, self._check_layout, listener, self._on_fatal
        )
        self._followers.append(follower)
        return follower

    def close(self) -> None:
        """See `Store`."""
        self._closing = True
        while self._followers:
            self._followers.pop().close()
        try:
            self._client.stop()
            self._client.close()
        except KazooException as error:
            # An attempt to connect is hanging. It ends by its own timeout, in a daemon thread.
            LOG.debug("closing the ZooKeeper client: %s", error)

    def _path(self, path: str) -> str:
        return self._chroot + path

    def _check_layout(self) -> bool:
        """Whether there is a layout.

        Raises:
            UnknownLayout: it is of another version.
            KazooException: it cannot be read.
        """
        if self._checked:
            return True
        node = self._read(layout.VERSION_NODE)
        if node is not None:
            layout.check_version(node.data)
            self._checked = True
        return node is not None

    def _make_layout(self) -> None:
        if not self._check_layout():
            try:
                self._write(layout.VERSION_NODE, layout.version_content(), None)
            except NodeExistsError:
                self._check_layout()

    def _read(self, path: str) -> _Node | None:
        try:
            data, status = self._await(self._client.get_async(self._path(path)))
        except NoNodeError:
            return None
        return _Node(data, status.version)

    def _write(self, path: str, data: bytes, replaced: _Node | None) -> None:
        if replaced is None:
            result = self._client.create_async(self._path(path), data, makepath=True)
        else:
            result = self._client.set_async(self._path(path), data, replaced.version)
        self._await(result)

    def _children(self, path: str) -> list[str]:
        def read() -> list[str]:
            try:
                return sorted(self._await(self._client.get_children_async(self._path(path))))
            except NoNodeError:
                return []

        return self._run(read)

    def _await(self, result: Any) -> Any:
        return result.get(timeout=OPERATION_TIMEOUT)

    def _run(self, operation: Callable[[], T]) -> T:
        """Run an operation, again when the connection is lost under it, for a bounded time."""
        handler = self._client.handler
        retry = make_retry(handler, max_delay=1.0, deadline=OPERATION_TIMEOUT)
        try:
            if not self._closing and self._connected.wait(OPERATION_TIMEOUT):
                result: T = retry(operation)
                return result
        except NoAuthError as error:
            raise StoreError(f"ZooKeeper at {self._hosts} denies access to a node") from error
        except (
            RetryFailedError,
            ConnectionClosedError,
            self._client.handler.timeout_exception,
        ) as error:
            raise self._unavailable() from error
        except KazooException as error:
            raise StoreError(f"ZooKeeper at {self._hosts}: {error!r}") from error
        raise self._unavailable()

    def _unavailable(self) -> StoreUnavailable:
        if self._closing:
            return StoreUnavailable("the store has been closed")
        return StoreUnavailable(
            f"no ZooKeeper answers at {self._hosts} within {OPERATION_TIMEOUT:g} s"
        )

    def _on_state(self, state: str) -> None:
        """Note and log what becomes of the connection. Runs in kazoo's connection thread."""
        if self._closing:
            return
        if state == KazooState.CONNECTED:
            LOG.info("connected to ZooKeeper at %s", self._hosts)
            self._outage.reset()
            self._checked = False
            for follower in list(self._followers):
                follower.read_all()
        elif state == KazooState.SUSPENDED:
            LOG.warning(
                "lost the connection to ZooKeeper at %s; what was last known stays in force",
                self._hosts,
            )
        else:
            LOG.info("the session with ZooKeeper at %s is over, making another", self._hosts)


def _stored(port_id: str, node: _Node | None) -> Stored:
    if node is None:
        return None
    try:
        return PortRecord.from_json(port_id, node.data)
    except MalformedRecord as malformed:
        return malformed
