"""Repairs what publishing missed: compares all ports and records, at the start and at intervals.

One thread, in a process of Neutron that serves no API. A lock in the store admits one server at a
time; a server that finds the lock taken skips its turn. It never skips its first turn, because
other servers may have read Neutron before this server's last process lost changes. Unlike the
command it writes one port at a time, in its own thread, because Neutron may have patched threads in
that process.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from ovs_metadata.publisher.bulk import SyncResult, TooManyRemovals, synchronise
from ovs_metadata.publisher.comparison import Action, PortSource
from ovs_metadata.publisher.paging import PagingIgnored
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

LOCK = "reconciliation"
"""The lock's name in the store."""

TOMBSTONE_AGE = 24 * 3600.0
"""Seconds after which no update of a deleted port can still be on its way."""

RETRY_DELAY = 5.0
"""Seconds after which a reconciliation that failed is tried again."""


def reconcile(source: PortSource, store: Store, stop: threading.Event) -> SyncResult:
    """Compare everything and repair what differs, until stopped; what was done.

    A run that would remove most records (`are_most`) removes none, and logs that: an empty or wrong
    database is likelier than the loss of all those instances.

    Raises:
        StoreError: the store cannot be reached; what was done is done.
    """
    try:
        result = synchronise(
            source,
            store,
            dry_run=False,
            force=False,
            on_difference=lambda _finding: None,
            stopped=stop.is_set,
            writers=1,
        )
    except TooManyRemovals as refusal:
        LOG.error(
            "%d of %d port records have no compute port in Neutron's database, and the server "
            "removed none of them: is this the right database? To remove them, run: ovs-metadata "
            "port sync --from-neutron --force",
            refusal.removals,
            refusal.records,
        )
        result = refusal.result
        del result.ports[Action.REMOVE]
    if not stop.is_set():
        store.sweep(TOMBSTONE_AGE)
    return result


class Reconciler:
    """Reconciles from `start` to `stop`.

    Args:
        open_store: opens the store, in the thread; it need not wait for a connection.
        source: Neutron's ports.
        interval: seconds between two reconciliations, one tenth more or less.
        failures: what `source` raises when Neutron's database cannot be read; tried again.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        source: PortSource,
        interval: float,
        failures: tuple[type[Exception], ...] = (),
    ) -> None:
        self._open_store = open_store
        self._source = source
        self._interval = interval
        self._failures: tuple[type[Exception], ...] = (StoreError, *failures)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="ovs-metadata-reconciliation", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end, soon."""
        self._stop.set()

    def wait(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._reconcile_until_stopped()
        finally:
            if not self._stop.is_set():
                LOG.error(
                    "the reconciliation of port records has ended: restart this process",
                    exc_info=True,
                )

    def _reconcile_until_stopped(self) -> None:
        store: Store | None = None
        first, failing = True, False
        while not self._stop.is_set():
            pause = self._interval * random.uniform(0.9, 1.1)  # noqa: S311 - keeps servers apart
            try:
                store = store or self._open_store()
                held = self._turn(store)
                if first and not held:
                    pause = min(pause, RETRY_DELAY)
                first, failing = first and not held, False
            except PagingIgnored as error:
                # Neutron will be no different in a few seconds.
                LOG.error("cannot reconcile port records: %s", error)
            except self._failures as error:
                if not failing:
                    LOG.warning("cannot reconcile port records: %s; trying again", error)
                pause = min(pause, RETRY_DELAY)
                failing = True
            except Exception:
                # A defect, ours or of what we use. Without this thread nothing would be repaired.
                LOG.exception("cannot reconcile port records; trying again at the next interval")
            self._stop.wait(pause)
        if store is not None:
            store.close()

    def _turn(self, store: Store) -> bool:
        """Reconcile; False if another server is at it."""
        with store.lock(LOCK) as held:
            if not held:
                LOG.debug("another server is reconciling port records")
                return False
            result = reconcile(self._source, store, self._stop)
        LOG.log(
            logging.WARNING if result.differences else logging.INFO,
            "port records reconciled: %d right, %d added, %d updated, %d removed, %d kept, "
            "%d changed meanwhile",
            *(result.ports[action] for action in Action),
            result.refused,
        )
        return True
