"""The watches of one client, so that there are no more of them than nodes followed.

A watch that nobody needs any more (an instance has moved to another host, its record goes on
changing seldom or never) would stay with ZooKeeper and with kazoo for as long as the session lasts.
ZooKeeper can remove one since 3.5 (OpCode.removeWatches), kazoo has no request for it. So this
module has, and it is the only one that touches what kazoo does not show.

Any thread may call it; nothing waits but `forget`, for what it has asked.
"""

import logging
import threading
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from kazoo.exceptions import EXCEPTIONS, ZookeeperError
from kazoo.protocol.serialization import int_struct, write_string

LOG = logging.getLogger(__name__)

Watcher = Callable[[Any], None]


class NoWatcherError(ZookeeperError):  # type: ignore[misc]
    """There is no such watch: it has fired while it was asked to be removed."""

    code = -121


# kazoo ends the connection on an error that it does not know.
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
    """Who watches which node of a client's; requests that set watches go through it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        # Held while a request is put into the queue, so that what is known here changes in the
        # same order as what ZooKeeper knows.
        self._lock = threading.Lock()
        self._watchers: dict[str, set[Watcher]] = {}

    def get(self, path: str, watcher: Watcher) -> Any:
        """Ask for a node, and to be told of its next change."""
        with self._lock:
            self._watchers.setdefault(path, set()).add(watcher)
            return self._client.get_async(path, watch=watcher)

    def exists(self, path: str, watcher: Watcher) -> Any:
        """Ask whether there is a node, and to be told when that changes."""
        with self._lock:
            self._watchers.setdefault(path, set()).add(watcher)
            return self._client.exists_async(path, watch=watcher)

    def fired(self, path: str) -> None:
        """A watch has fired, and is gone with that, for all who had it."""
        with self._lock:
            self._watchers.pop(path, None)

    def reset(self) -> None:
        """On a new connection there are none."""
        with self._lock:
            self._watchers.clear()

    def of(self, watcher: Watcher) -> set[str]:
        """The nodes this one watches."""
        with self._lock:
            return {path for path, watchers in self._watchers.items() if watcher in watchers}

    def forget(self, paths: Collection[str], watcher: Watcher, timeout: float) -> None:
        """Have this one watch these nodes no longer.

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
