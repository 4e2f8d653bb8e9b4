"""Follows the bindings of this host's ports in OVN's southbound database.

One thread keeps a replica of the rows of these ports alone: the server filters (conditional
monitoring), so memory and traffic do not depend on the deployment. The schema is not fetched: the
few columns are the same in all releases of OVN, and a start during an outage has to work. Any
server of a cluster will do, and relays do, since nothing is written. Works in processes patched by
eventlet, too.

A server that is behind its cluster confirms what it has itself. Where Nova has written vm-uuid
nothing depends on that.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import UUID

from ovs_metadata.host.confirming_idl import ConfirmingIdl
from ovs_metadata.host.python_ovs import SchemaHelper, Stream, poller
from ovs_metadata.host.southbound.binding import BINDINGS, KEYS, NEUTRON, PortBinding
from ovs_metadata.host.southbound.location import Location
from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.store.errors import StoreError, StoreUnavailable
from ovs_metadata.store.interface import Listener, PortState
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

SNAPSHOT_DELAY = 1.0
"""Seconds without a connection after which ports are reported from the snapshot; as ZooKeeper's."""

_TEXT = {"type": "string"}
_TEXTS = {"type": {"key": "string", "min": 0, "max": "unlimited"}}
_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}

TABLES: Mapping[str, Mapping[str, Any]] = {
    "Chassis": {"name": _TEXT},
    "Port_Binding": {
        "logical_port": _TEXT,
        "external_ids": _MAP,
        "mac": _TEXTS,
        # Not as references, so that the UUID of a chassis that is not followed is there as well.
        "chassis": {"type": {"key": "uuid", "min": 0, "max": 1}},
        "parent_port": {"type": {"key": "string", "min": 0, "max": 1}},
    },
    "Logical_Flow": {"match": _TEXT, "actions": _TEXT, "pipeline": _TEXT},
}
"""What is followed of the southbound database, as a schema (RFC 7047) has it."""

_OF_PORT = 'inport == "{}"'
"""match of the logical flow by which ovn-northd drops what a disabled port sends (northd.c,
build_lswitch_port_sec_op), and of few others."""

_DROPS = ("reg0[15] = 1", "drop;")
"""Actions of that flow; the first is REGBIT_PORT_SEC_DROP."""


class SouthboundFollower:
    """A `Follower` of port bindings.

    Args:
        locate: reads where the database is; raises StoreError.
        listener: called with each new state of a port.
        snapshot: of the followed ports; None keeps none.
    """

    confirms_cheaply = False

    def __init__(
        self,
        locate: Callable[[], Location],
        listener: Listener,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._locate = locate
        self._listener_state = ListenerState(BINDINGS, listener)
        self._snapshot = snapshot
        self._unconfirmed: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = _Wake()
        self._closed = False
        self._replica: _Replica | None = None
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

    def _run(self) -> None:
        while not self._closed:
            problem = self._advance()
            replica = self._replica
            if replica is not None and replica.is_up:
                self._lost_at = time.monotonic()
                self._report(replica)
                while not self._unconfirmed.empty():
                    replica.wanted.put(self._unconfirmed.get())
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
        """Do what there is to do without waiting; returns what is wrong, or nothing."""
        try:
            if time.monotonic() >= self._look_at:
                self._look()
            if self._replica is not None:
                keys = self._listener_state.keys()
                self._replica.follow([key for key in keys if is_port_id(key)])
                self._replica.run()
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
            self._replica = _Replica(location)

    def _drop(self) -> None:
        replica, self._replica = self._replica, None
        if replica is not None:
            for on_confirmed in replica.take_wanted():
                self._unconfirmed.put(on_confirmed)
            replica.close()

    def _report(self, replica: "_Replica") -> None:
        """Report the ports about which there is news, and those that have not been reported."""
        keys, unreported = self._listener_state.keys(), self._listener_state.unreported()
        touched = replica.take_touched()
        wanted = unreported | (keys if touched is None else touched & keys)
        if not wanted:
            return
        for key in wanted:
            if not is_port_id(key):
                self._listener_state.report(key, None)
        for port_id, binding in replica.bindings(wanted & replica.covered()).items():
            data = binding.to_json() if binding else None
            if self._snapshot:
                known = CachedNode(data) if data is not None else None
                path = BINDINGS.path_of(port_id)
                self._snapshot.put(path, known)
                if not self._listener_state.follows(port_id):
                    self._snapshot.unpin(path)
            self._listener_state.report(port_id, data)

    def _do_without(self, replica: "_Replica | None") -> None:
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
        if self._replica is not None:
            self._replica.wait(waiting)
        waiting.fd_wait(self._wake.fd, poller.POLLIN)
        waiting.timer_wait(round(min(pauses) * 1000))
        if not self._closed:
            waiting.block()
        self._wake.clear()


class _Replica(ConfirmingIdl):
    """The rows of the followed ports, and of this chassis."""

    def __init__(self, location: Location) -> None:
        if location.tls:
            # Of the whole process; what else it connects to by python-ovs is on this host.
            Stream.ssl_set_private_key_file(location.tls.key)
            Stream.ssl_set_certificate_file(location.tls.certificate)
            Stream.ssl_set_ca_cert_file(location.tls.authorities)
        helper = SchemaHelper(
            schema_json={
                "name": "OVN_Southbound",
                "tables": {name: {"columns": columns} for name, columns in TABLES.items()},
            }
        )
        helper.register_all()
        super().__init__(
            location.remote, helper, probe_interval=location.probe_interval, leader_only=False
        )
        self.location = location
        self._touched: set[str] | None = None  # None: any port may be
        self.cond_change("Chassis", [["name", "==", location.chassis]])
        self.follow(())

    @property
    def is_up(self) -> bool:
        """Whether the rows are those of the database."""
        return bool(self.state == self.IDL_S_MONITORING and self._session.is_connected())

    def follow(self, port_ids: Collection[str]) -> None:
        """Have the server send the rows of these ports and no others."""
        chosen = sorted(port_ids)
        self.cond_change("Port_Binding", [["logical_port", "==", each] for each in chosen])
        self.cond_change("Logical_Flow", [["match", "==", _OF_PORT.format(e)] for e in chosen])

    def covered(self) -> set[str]:
        """The ports whose rows are there, if there are any."""
        found: list[set[str]] = []
        for name, index in (("Port_Binding", "{}"), ("Logical_Flow", _OF_PORT)):
            state = self.tables[name].condition_state
            before, _, after = index.partition("{}")
            for condition in (state.acked, state.requested):
                if condition is not None:
                    texts = (clause[2] for clause in condition if isinstance(clause, list))
                    found.append({t.removeprefix(before).removesuffix(after) for t in texts})
        return set.intersection(*found)

    def take_touched(self) -> set[str] | None:
        """The ports whose rows have changed since the last call; None: any may have."""
        touched, self._touched = self._touched, set()
        return touched

    def bindings(self, port_ids: Collection[str]) -> dict[str, PortBinding | None]:
        """The bindings of these ports; None for one without."""
        if not port_ids:
            return {}
        rows = {row.logical_port: row for row in self.tables["Port_Binding"].rows.values()}
        ours = next(iter(self.tables["Chassis"].rows), None)
        dropped = {
            row.match
            for row in self.tables["Logical_Flow"].rows.values()
            if row.pipeline == "ingress" and any(each in row.actions for each in _DROPS)
        }
        return {
            port_id: _binding(row, ours, disabled=_OF_PORT.format(port_id) in dropped)
            if (row := rows.get(port_id))
            else None
            for port_id in port_ids
        }

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Note which port a change is about (called for each row that changes)."""
        super().notify(event, row, updates)
        if self._touched is None:
            return
        match row._table.name:
            case "Port_Binding":
                self._touched.add(row.logical_port)
            case "Logical_Flow":
                before, _, after = _OF_PORT.partition("{}")
                self._touched.add(row.match.removeprefix(before).removesuffix(after))
            case _:
                self._touched = None

    def run(self) -> bool:
        changed = bool(super().run())
        if self.state != self.IDL_S_MONITORING:
            self._touched = None  # rows that have gone while there was no connection do not notify
        return changed


def _binding(row: Any, chassis: UUID | None, *, disabled: bool) -> PortBinding:
    external_ids = row.external_ids
    return PortBinding(
        {key: external_ids[NEUTRON + key] for key in KEYS if NEUTRON + key in external_ids},
        tuple(row.mac),
        row.parent_port[0] if row.parent_port else "",
        "" if not row.chassis else "this" if row.chassis[0] == chassis else "another",
        disabled,
    )


class _Wake:
    """Wakes a thread that waits for a file descriptor."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        self._lock = threading.Lock()
        self._is_set = False
        self._is_closed = False

    def set(self) -> None:
        """Wake it, now or when it begins to wait. Any thread may call it."""
        with self._lock:
            if not self._is_set and not self._is_closed:
                # Never blocks: the pipe is empty. In a patched process it would not block either.
                os.write(self._write, b"x")
                self._is_set = True

    def clear(self) -> None:
        """Let it wait again."""
        with self._lock:
            if self._is_set:
                os.read(self.fd, 1)
                self._is_set = False

    def close(self) -> None:
        """Close the descriptors."""
        with self._lock:
            self._is_closed = True
            os.close(self.fd)
            os.close(self._write)


def read_states(
    locate: Callable[[], Location], port_ids: Collection[str], timeout: float
) -> dict[str, PortState]:
    """Read the states of ports once.

    Raises:
        StoreUnavailable: the database does not answer within `timeout` seconds.
        StoreError: it is not known where it is.
    """
    remote = locate().remote
    states: dict[str, PortState] = {}
    complete = threading.Event()
    wanted = set(port_ids)

    def told(port_id: str, state: PortState) -> None:
        states[port_id] = state
        if states.keys() >= wanted:
            complete.set()

    follower = SouthboundFollower(locate, told)
    try:
        follower.set_ports(wanted)
        if wanted and not complete.wait(timeout):
            raise StoreUnavailable(
                f"OVN's southbound database at {remote} does not answer within {timeout:g} s"
            )
    finally:
        follower.close()
    return states
