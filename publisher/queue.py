"""The queue of changes to publish: the newest of each resource, first come, first served.

A resource is a port or a network. Safe to use from several threads; it starts none. Its memory is
bounded by the number of resources, and by a limit beyond which it drops changes of further ones;
the reconciliation finds those.
"""

from __future__ import annotations

import threading
from typing import Union

from ovs_metadata.publisher.networks import NetworkChange
from ovs_metadata.publisher.ports import Change

LIMIT = 100_000
"""Resources that may wait: about 100 MB."""

AnyChange = Union[Change, NetworkChange]


class ChangeQueue:
    """Changes by resource, in the order in which the resources came in."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._changes: dict[str, AnyChange] = {}
        # Taken and not done yet.
        self._taken: AnyChange | None = None
        self._condition = threading.Condition()

    def put(self, change: AnyChange) -> bool:
        """Add a change, unless what waits of its resource is newer; False if there was no room."""
        with self._condition:
            waiting = self._changes.get(change.key)
            if waiting is None and len(self._changes) >= self._limit:
                return False
            if waiting is None or change.outdates(waiting):
                self._changes[change.key] = change
            self._condition.notify_all()
        return True

    def take(self) -> AnyChange:
        """Wait for a change and take it out; `task_done` or `give_back` it before the next."""
        with self._condition:
            self._condition.wait_for(lambda: self._changes)
            key = next(iter(self._changes))
            self._taken = self._changes.pop(key)
            return self._taken

    def task_done(self) -> None:
        """Say that the change taken last is published."""
        with self._condition:
            self._taken = None
            self._condition.notify_all()

    def give_back(self) -> None:
        """Put the change taken last back at the end, unless something newer came in meanwhile."""
        with self._condition:
            change, self._taken = self._taken, None
            if change is None:
                return
            waiting = self._changes.get(change.key)
            if waiting is None or change.outdates(waiting):
                self._changes[change.key] = change

    def wait_empty(self, timeout: float) -> bool:
        """Wait until everything is published, for so many seconds; whether it is."""
        with self._condition:
            return self._condition.wait_for(
                lambda: not self._changes and self._taken is None, timeout
            )
