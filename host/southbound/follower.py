"""Follows the bindings of this host's ports in OVN's southbound database.

One thread keeps a replica of the rows of these ports alone. Any server of a cluster will do, and
relays do. Works in processes patched by eventlet, too.

A server that is behind its cluster confirms what it has itself. Where Nova has written vm-uuid
nothing depends on that.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection

from ovs_metadata.host.python_ovs import poller
from ovs_metadata.host.southbound.binding import BINDINGS
from ovs_metadata.host.southbound.location import Location
from ovs_metadata.host.southbound.replica import SouthboundReplica
from ovs_metadata.host.southbound.wake import PipeWake
from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.interface import Listener
from ovs_metadata.store.listener_state import ListenerState
from ovs_metadata.store.record import is_port_id
from ovs_metadata.store.snapshot import CachedNode, Snapshot

LOG = logging.getLogger(__name__)

LOOK_INTERVAL = 10.0
"""Seconds between two looks at where the database is."""

RETRY_INTERVAL = 1.0
"""Seconds before a failed attempt is repeated."""

PATIENCE = 5.0
"""Seconds without a connection that are no problem yet: a server restarts, a cluster elects."""

CLAIM_TIME = 1.0
"""Seconds that ovn-controller gets for binding a port to this chassis. It takes some milliseconds;
to ask for a port by name costs the server more."""

SNAPSHOT_DELAY = 1.0
"""Seconds without a connection after which ports are reported from the snapshot; as ZooKeeper's."""


class SouthboundFollower:
    """A `Follower` of port bindings.

    Args:
        locate: reads where the database is; raises StoreError.
        listener: called with each new state of a port.
        snapshot: of the followed ports; None keeps none.
        patience: seconds that OVN gets for binding a port here.
        shows_agent: show this host's agent in Neutron's list of agents.
    """

    confirms_cheaply = False

    def __init__(
        self,
        locate: Callable[[], Location],
        listener: Listener,
        snapshot: Snapshot | None = None,
        patience: float = CLAIM_TIME,
        *,
        shows_agent: bool = False,
    ) -> None:
        self._locate = locate
        self._patience = patience
        self._shows_agent = shows_agent
        self._next_due: float | None = None
        self._uncovered: set[str] = set()
        self._listener_state = ListenerState(BINDINGS, listener)
        self._snapshot = snapshot
        self._unconfirmed: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = PipeWake()
        self._closed = False
        self._replica: SouthboundReplica | None = None
        self._look_at = 0.0
        self._lost_at = time.monotonic()
        self._problems = ProblemLog(
            LOG,
            "%s; the last known data stays in use",
            "OVN's southbound database answers",
        )
        self._thread = threading.Thread(target=self._run, name="southbound", daemon=True)
        self._thread.start()

    def set_ports(self, port_ids: Collection[str]) -> None:
        """See `Follower`."""
        left = self._listener_state.keys().difference(port_ids)
        self._listener_state.set_keys(port_ids)
        if self._snapshot:
            for port_id in filter(is_port_id, left):
                self._snapshot.unpin(BINDINGS.path_of(port_id))
        self._wake.set()

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """See `Follower`."""
        self._unconfirmed.put(on_confirmed)
        self._wake.set()

    def close(self) -> None:
        """See `Follower`. A listener may call it."""
        self._closed = True
        self._listener_state.set_keys(())
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def disconnected_for(self) -> float:
        """Seconds for which there has been no connection; 0 while there is one."""
        replica = self._replica
        return 0.0 if replica and replica.is_up else time.monotonic() - self._lost_at

    @property
    def has_chassis(self) -> bool:
        """Whether OVN knows this host, as far as a port has been reported."""
        replica = self._replica
        return replica is not None and replica.chassis is not None

    def _run(self) -> None:
        while not self._closed:
            problem = self._advance()
            replica = self._replica
            if replica is not None and replica.is_up:
                self._lost_at = time.monotonic()
                self._report(replica)
                while not self._unconfirmed.empty():
                    replica.wanted.put(self._unconfirmed.get())
                if self._uncovered <= self._listener_state.unreported():
                    replica.confirm_wanted()
            else:
                self._do_without(replica)
                if not problem and time.monotonic() - self._lost_at > PATIENCE:
                    problem = "OVN's southbound database does not answer"
                    problem += f" at {replica.location.remote}" if replica else ""
            self._problems.found([problem] if problem else [])
            self._wait()
        self._drop()
        if self._snapshot:
            self._snapshot.save(now=True)
        self._wake.close()

    def _advance(self) -> str:
        """Do what there is to do without waiting; returns the problems."""
        try:
            if time.monotonic() >= self._look_at:
                self._look()
            if self._replica is not None:
                self._replica.run()
                port_ids = set(filter(is_port_id, self._listener_state.keys()))
                due = self._replica.follow(port_ids, self._patience), self._replica.show_agent()
                self._next_due = min((each for each in due if each is not None), default=None)
        except StoreError as error:
            self._look_at = time.monotonic() + RETRY_INTERVAL
            # The connection that there is stays.
            return "" if self._replica is not None and self._replica.is_up else str(error)
        except Exception as error:
            # python-ovs has no exceptions of its own: ssl's and OSError, for unusable files.
            LOG.debug("the connection to OVN's southbound database failed", exc_info=True)
            self._drop()
            self._look_at = time.monotonic() + RETRY_INTERVAL
            return f"OVN's southbound database cannot be used: {error or type(error).__name__}"
        return ""

    def _look(self) -> None:
        location = self._locate()
        self._look_at = time.monotonic() + LOOK_INTERVAL
        if self._replica is None or self._replica.location != location:
            self._drop()
            LOG.info("following OVN's southbound database at %s", location.remote)
            self._replica = SouthboundReplica(location, shows_agent=self._shows_agent)

    def _drop(self) -> None:
        replica, self._replica = self._replica, None
        if replica is not None:
            for on_confirmed in replica.take_wanted():
                self._unconfirmed.put(on_confirmed)
            replica.close()

    def _report(self, replica: SouthboundReplica) -> None:
        """Report the ports about which there is news, and those that have not been reported."""
        keys, unreported = self._listener_state.keys(), self._listener_state.unreported()
        touched = replica.take_touched()
        wanted = unreported | (keys if touched is None else touched & keys)
        wanted |= self._uncovered & keys
        for key in wanted:
            if not is_port_id(key):
                self._listener_state.report(key, None)
        covered = replica.covered()
        self._uncovered = {key for key in wanted - covered if is_port_id(key)}
        for port_id, binding in replica.bindings(wanted & covered).items():
            data = binding.to_json() if binding else None
            if self._snapshot:
                known = CachedNode(data) if data is not None else None
                path = BINDINGS.path_of(port_id)
                self._snapshot.put(path, known)
                if not self._listener_state.follows(port_id):
                    self._snapshot.unpin(path)
            self._listener_state.report(port_id, data)

    def _do_without(self, replica: SouthboundReplica | None) -> None:
        """There is no connection: the snapshot has to do, and nothing newer can be known."""
        if self._snapshot and time.monotonic() - self._lost_at > SNAPSHOT_DELAY:
            for port_id in filter(is_port_id, self._listener_state.unreported()):
                known = self._snapshot.get(BINDINGS.path_of(port_id))
                if known is not None:
                    self._listener_state.report(port_id, known.data)
        if replica is not None:
            for on_confirmed in replica.take_wanted():
                self._unconfirmed.put(on_confirmed)
        while not self._unconfirmed.empty() and not self._closed:
            self._unconfirmed.get()()

    def _wait(self) -> None:
        """Wait until there is something to do."""
        waiting = poller.Poller()
        pauses = [max(0.0, self._look_at - time.monotonic())]
        if self._snapshot:
            due = self._snapshot.save()
            pauses += [] if due is None else [due]
        if self._replica is None or not self._replica.is_up:
            pauses.append(SNAPSHOT_DELAY / 4)
        elif self._next_due is not None:
            pauses.append(self._next_due)
        if self._replica is not None:
            self._replica.wait(waiting)
        waiting.fd_wait(self._wake.fd, poller.POLLIN)
        waiting.timer_wait(round(min(pauses) * 1000))
        if not self._closed:
            waiting.block()
        self._wake.clear()
