"""The queue of changes to publish: the newest of each port, first come, first served.

Safe to use from several threads; it starts none. Its memory is bounded by the number of ports, and
by a limit beyond which it drops changes of further ports; the reconciliation finds those.
"""

from __future__ import annotations

import threading

from ovs_metadata.publisher.ports import Change

LIMIT = 100_000
"""Ports that may wait: about 100 MB."""


class ChangeQueue:
    """Changes by port, in the order in which the ports came in."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._changes: dict[str, Change] = {}
        # Taken and not done yet.
        self._taken: Change | None = None
        self._condition = threading.Condition()

    def put(self, change: Change) -> bool:
        """Add a change, unless what waits of its port is newer; False if there was no room."""
        with self._condition:
            waiting = self._changes.get(change.port_id)
            if waiting is None and len(self._changes) >= self._limit:
                return False
            if waiting is None or change.outdates(waiting):
                self._changes[change.port_id] = change
            self._condition.notify_all()
        return True

    def take(self) -> Change:
        """Wait for a change and take it out; `task_done` or `give_back` it before the next."""
        with self._condition:
            self._condition.wait_for(lambda: self._changes)
            port_id = next(iter(self._changes))
            self._taken = self._changes.pop(port_id)
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
            waiting = self._changes.get(change.port_id)
            if waiting is None or change.outdates(waiting):
                self._changes[change.port_id] = change

    def wait_empty(self, timeout: float) -> bool:
        """Wait until everything is published, for so many seconds; whether it is."""
        with self._condition:
            return self._condition.wait_for(
                lambda: not self._changes and self._taken is None, timeout
            )
