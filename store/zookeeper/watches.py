"""The watches of one client, so that there are no more of them than nodes followed.

An unused watch (an instance has moved to another host, and its record changes seldom or never)
would stay in ZooKeeper and in kazoo until the end of the session. ZooKeeper can remove a watch
since 3.5 (OpCode.removeWatches), but kazoo has no request for it. This module has one, and is the
only module that uses private parts of kazoo.

Any thread may call it; only `forget` waits, for its replies.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from kazoo.exceptions import EXCEPTIONS, ZookeeperError
from kazoo.protocol.serialization import int_struct, write_string

LOG = logging.getLogger(__name__)

Watcher = Callable[[Any], None]


class NoWatcherError(ZookeeperError):  # type: ignore[misc]
    """There is no such watch: it fired during the request to remove it."""

    code = -121


# kazoo closes the connection on an error that it does not know.
EXCEPTIONS.setdefault(NoWatcherError.code, NoWatcherError)


class RemoveWatches(NamedTuple):
    """The request: a path, and which kind of watches (2: on data, those of absent nodes too)."""

    path: str
    kind: int = 2

    @property
    def type(self) -> int:
        """ZooKeeper's number of the operation."""
        return 18

    def serialize(self) -> bytes:
        """Its body, as in zookeeper.jute: RemoveWatchesRequest."""
        return bytes(write_string(self.path) + int_struct.pack(self.kind))

    @staticmethod
    def deserialize(_data: bytes, _offset: int) -> bool:
        """The answer, which has no body."""
        return True


class Watches:
    """The watchers of each node of a client. Requests that set watches pass through it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        # Held while a request is put into the queue, so that what is known here changes in the
        # same order as what ZooKeeper knows.
        self._lock = threading.Lock()
        self._watchers: dict[str, set[Watcher]] = {}

    def get(self, path: str, watcher: Watcher) -> Any:
        """Read a node, and set a watch for its next change."""
        with self._lock:
            self._watchers.setdefault(path, set()).add(watcher)
            return self._client.get_async(path, watch=watcher)

    def exists(self, path: str, watcher: Watcher) -> Any:
        """Check whether a node exists, and set a watch for a change of that."""
        with self._lock:
            self._watchers.setdefault(path, set()).add(watcher)
            return self._client.exists_async(path, watch=watcher)

    def fired(self, path: str) -> None:
        """A watch has fired: ZooKeeper has removed it, for all of its watchers."""
        with self._lock:
            self._watchers.pop(path, None)

    def reset(self) -> None:
        """Drop all watches: a new connection has none."""
        with self._lock:
            self._watchers.clear()

    def of(self, watcher: Watcher) -> set[str]:
        """The nodes of a watcher."""
        with self._lock:
            return {path for path, watchers in self._watchers.items() if watcher in watchers}

    def forget(self, paths: Collection[str], watcher: Watcher, timeout: float) -> None:
        """Remove the watches of a watcher on these nodes.

        Raises:
            KazooException: they could not be removed; the watches may be there or not.
        """
        removals = []
        with self._lock:
            for path in paths:
                watchers = self._watchers.get(path, set())
                watchers.discard(watcher)
                if not watchers:
                    self._watchers.pop(path, None)
                    removals.append((path, self._remove_async(path)))
        for path, removal in removals:
            try:
                removal.get(timeout=timeout)
            except NoWatcherError:
                LOG.debug("the watch of %s had just fired", path)
            with self._lock:
                if path not in self._watchers:
                    self._client._data_watchers.pop(path, None)

    def _remove_async(self, path: str) -> Any:
        result = self._client.handler.async_result()
        self._client._call(RemoveWatches(path), result)
        return result
