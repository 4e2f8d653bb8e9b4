"""Publishes changes to the store, beside the threads that make them.

One daemon thread per process. The first change starts it, and so after any fork: API servers load
their application before or after they fork, and both must work. The thread opens the store, and
never closes it. Changes during an outage wait in the queue. The reconciliation finds what a killed
process lost.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable

from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.publisher.networks import NetworkChange
from ovs_metadata.publisher.queue import AnyChange, ChangeQueue
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.record import SUBPORT
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

FIRST_DELAY = 0.1
"""Seconds before a failed write is repeated; doubled with each failure."""

MAX_DELAY = 10.0
"""Seconds at most between two attempts."""

EXIT_TIMEOUT = 2.0
"""Seconds that an ending process waits for the remaining changes."""


class Publisher:
    """Takes changes, and never makes the caller wait for the store.

    Args:
        open_store: opens the store, in the thread; it should not wait for a connection.
    """

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._queue: ChangeQueue
        self._thread: threading.Thread | None
        self._starting: threading.Lock
        # Whether the queue had no room for the last change.
        self._full: bool
        self._start_over()
        # A forked child lacks the thread and may not use the parent's connection. The parent
        # publishes the waiting changes.
        os.register_at_fork(after_in_child=self._start_over)

    def submit(self, change: AnyChange) -> None:
        """Have a change published."""
        if not self._queue.put(change):
            if not self._full:
                LOG.warning(
                    "the queue of changes is full: changes of further ports are dropped, and the "
                    "next reconciliation publishes them"
                )
            self._full = True
            return
        self._full = False
        if self._thread is None or not self._thread.is_alive():
            with self._starting:
                if self._thread is None or not self._thread.is_alive():
                    self._start()

    def flush(self, timeout: float = EXIT_TIMEOUT) -> bool:
        """Wait up to `timeout` seconds until all changes are published; whether they are."""
        return self._thread is None or self._queue.wait_empty(timeout)

    def _start_over(self) -> None:
        self._queue = ChangeQueue()
        self._thread = None
        self._starting = threading.Lock()
        self._full = False

    def _start(self) -> None:
        if self._thread is None:
            atexit.register(self.flush)
        self._thread = threading.Thread(
            target=self._run, args=(self._queue,), name="ovs-metadata-publisher", daemon=True
        )
        self._thread.start()

    def _run(self, queue: ChangeQueue) -> None:
        pause = threading.Event()
        store: Store | None = None
        delay = FIRST_DELAY
        problem = ProblemLog(
            LOG,
            "cannot publish port records: %s; trying again",
            "publishing port records works again",
        )
        while True:
            change = queue.take()
            try:
                store = store or self._open_store()
                publish(store, change)
            except StoreError as error:
                problem.found([str(error)])
                queue.give_back()
                pause.wait(delay)
                delay = min(2 * delay, MAX_DELAY)
                continue
            queue.task_done()
            problem.found()
            delay = FIRST_DELAY


def publish(store: Store, change: AnyChange) -> bool:
    """Write a change to the store, unless it holds something newer.

    Returns:
        Whether the store now holds the change.

    Raises:
        StoreError: the store cannot be reached or written.
    """
    if isinstance(change, NetworkChange):
        return store.put_network(change.network)
    record = change.record
    if record is None:
        return store.delete(change.port_id, change.revision_number)
    if record.device_owner == SUBPORT:
        # A port enters and leaves trunks without a change of its revision.
        return store.undelete(record)
    return store.put(record)
