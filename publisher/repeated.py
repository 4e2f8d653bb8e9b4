"""Work with the store that a process repeats, in a thread of its own.

Neutron may have patched threads in that process.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

RETRY_DELAY = 5.0
"""Seconds after which work that failed is tried again."""


class Repeated:
    """Does its work from `start` to `stop`.

    Args:
        what: the work, as log lines have it after "cannot".
        open_store: opens the store, in the thread; it need not wait for a connection.
        interval: seconds between two turns, one tenth more or less.
        failures: what the work raises, besides StoreError, when it cannot be done now.
    """

    def __init__(
        self,
        what: str,
        open_store: Callable[[], Store],
        interval: float,
        failures: tuple[type[Exception], ...] = (),
    ) -> None:
        self._what = what
        self._open_store = open_store
        self.interval = interval
        self._failures: tuple[type[Exception], ...] = (StoreError, *failures)
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ovs-metadata {what}", daemon=True)

    def turn(self, store: Store) -> bool:
        """Do the work once; False if another server is at it."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end, soon."""
        self.stopping.set()

    def wait(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._repeat_until_stopped()
        finally:
            if not self.stopping.is_set():
                LOG.error(
                    "this process does not %s any more: restart it", self._what, exc_info=True
                )

    def _repeat_until_stopped(self) -> None:
        store: Store | None = None
        done_once, failing = False, False
        while not self.stopping.is_set():
            pause = self.interval * random.uniform(0.9, 1.1)  # noqa: S311 - keeps servers apart
            try:
                store = store or self._open_store()
                done_once = self.turn(store) or done_once
                if not done_once:
                    pause = min(pause, RETRY_DELAY)
                failing = False
            except self._failures as error:
                if not failing:
                    LOG.warning("cannot %s: %s; trying again", self._what, error)
                pause = min(pause, RETRY_DELAY)
                failing = True
            except Exception:
                # A defect, ours or of what we use. Without this thread the work would never be
                # done again.
                LOG.exception("cannot %s; trying again at the next interval", self._what)
            self.stopping.wait(pause)
        if store is not None:
            store.close()
