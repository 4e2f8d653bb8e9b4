"""Repairs what publishing missed: compares everything, at the start and at intervals.

One thread, in a process of Neutron that serves no API. A lock in the store admits one server at a
time; a server that finds the lock taken skips its turn. It never skips its first turn, because
other servers may have read Neutron before this server's last process lost changes. Unlike the
command it writes one port at a time, in its own thread, because Neutron may have patched threads in
that process.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable

from ovs_metadata.publisher.bulk import Source, SyncResult, TooManyRemovals, synchronise
from ovs_metadata.publisher.comparison import Action
from ovs_metadata.publisher.paging import PagingIgnored
from ovs_metadata.publisher.repeated import Repeated
from ovs_metadata.store import layout
from ovs_metadata.store.documents import replace
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.reconciliation import ReconciliationReport
from ovs_metadata.store.record import MAX_TEXT
from ovs_metadata.store.store import Store
from ovs_metadata.untrusted import escaped

LOG = logging.getLogger(__name__)

LOCK = "reconciliation"
"""The lock's name in the store."""

TOMBSTONE_AGE = 24 * 3600.0
"""Seconds after which no update of a deleted port can still be on its way."""


def reconcile(source: Source, store: Store, stop: threading.Event) -> SyncResult:
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
        result.withheld = refusal.removals
    if not stop.is_set():
        store.sweep(TOMBSTONE_AGE)
    return result


_NAMES = {
    Action.NONE: "right",
    Action.ADD: "added",
    Action.UPDATE: "updated",
    Action.REMOVE: "removed",
    Action.LEAVE: "kept",
}
"""Actions as a report has them."""


def report_of(result: SyncResult, began: float, ended: float, interval: float) -> bytes:
    """The report of a reconciliation for the store; times are in seconds since the epoch."""
    ports = {
        **{name: result.ports[action] for action, name in _NAMES.items()},
        "refused": result.refused,
        "withheld": result.withheld,
    }
    networks = {name: result.networks[action] for action, name in _NAMES.items()}
    server = escaped(socket.gethostname())[:MAX_TEXT]
    duration = max(0.0, ended - began)
    return ReconciliationReport(server, ended, duration, interval, ports, networks).to_json()


class Reconciler(Repeated):
    """Reconciles from `start` to `stop`.

    Args:
        open_store: opens the store, in the thread; it need not wait for a connection.
        source: Neutron's ports and networks.
        interval: seconds between two reconciliations, one tenth more or less.
        failures: what `source` raises when Neutron's database cannot be read; tried again.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        source: Source,
        interval: float,
        failures: tuple[type[Exception], ...] = (),
    ) -> None:
        super().__init__("reconcile port records", open_store, interval, failures)
        self._source = source

    def turn(self, store: Store) -> bool:
        """Reconcile; False if another server is at it."""
        with store.lock(LOCK) as held:
            if not held:
                LOG.debug("another server is reconciling port records")
                return False
            began = time.time()
            try:
                result = reconcile(self._source, store, self.stopping)
            except PagingIgnored as error:
                # Neutron will be no different in a few seconds.
                LOG.error("cannot reconcile port records: %s", error)
                return True
            if not self.stopping.is_set():
                _write(store, report_of(result, began, time.time(), self.interval))
        LOG.log(
            logging.WARNING if result.differences else logging.INFO,
            "port records reconciled: %d right, %d added, %d updated, %d removed, %d kept, "
            "%d changed meanwhile",
            *(result.ports[action] for action in Action),
            result.refused,
        )
        if any(result.networks.values()):
            LOG.info(
                "options of networks reconciled: %s",
                ", ".join(f"{count} {action.value}" for action, count in result.networks.items()),
            )
        return True


def _write(store: Store, report: bytes) -> None:
    """Write the report; the reconciliation is done, and not repeated for a report that fails."""
    try:
        replace(store, layout.RECONCILIATION, lambda _before: report)
    except StoreError as error:
        LOG.warning("cannot report the reconciliation in the store: %s", error)
