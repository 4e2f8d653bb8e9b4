"""This host's ports, live: OVSDB and the store, followed together.

Callbacks come from OVSDB's thread and the store's; both only replace a value under a lock and
tell the owner that something changed. The owner calls `state` when it gets round to it, however
many changes there were. Lives from construction to `close`.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ovs_metadata.host.ovsdb import Bridge, Ovsdb
from ovs_metadata.host.ports import Bound, bind, port_id_of
from ovs_metadata.store.interface import MalformedRecord, PortState, Store

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostState:
    """The bridge (None when there is none) and what is bound on it."""

    bridge: Bridge | None
    bound: Bound


class PortWatcher:
    """Follows one bridge and the records of the ports on it."""

    def __init__(
        self, ovsdb_connection: str, bridge: str, store: Store, on_change: Callable[[], None]
    ) -> None:
        """Start following; raises OvsdbUnreachable. `on_change` is called from any thread."""
        self._on_change = on_change
        self._bridge_name = bridge
        self._lock = threading.Lock()
        self._bridge: Bridge | None = None
        self._followed: frozenset[str] = frozenset()
        self._records: dict[str, PortState] = {}
        self._complaints: dict[str, str] = {}
        self._had_bridge: bool | None = None
        self._follower = store.follow(self._record_changed)
        try:
            self.ovsdb = Ovsdb(ovsdb_connection, bridge, self._bridge_changed)
        except BaseException:
            self._follower.close()
            raise

    def close(self) -> None:
        """Stop following."""
        self.ovsdb.close()
        self._follower.close()

    @property
    def bridge(self) -> Bridge | None:
        """The bridge as OVSDB last showed it."""
        with self._lock:
            return self._bridge

    def state(self) -> HostState:
        """How things stand now. Says in the log what is refused, once for each reason."""
        with self._lock:
            bridge = self._bridge
            records = dict(self._records)
        bound = bind(bridge.interfaces if bridge else (), records)
        self._complain(bound)
        return HostState(bridge, bound)

    def _bridge_changed(self, bridge: Bridge | None) -> None:
        present = bridge is not None
        if present != self._had_bridge:
            if present:
                LOG.info("bridge %s is there", self._bridge_name)
            else:
                LOG.warning("there is no bridge %s: waiting for it", self._bridge_name)
        self._had_bridge = present
        port_ids = frozenset(
            port_id
            for port_id in map(port_id_of, bridge.interfaces if bridge else ())
            if port_id is not None
        )
        with self._lock:
            self._bridge = bridge
            self._followed = port_ids
            self._records = {
                port_id: record for port_id, record in self._records.items() if port_id in port_ids
            }
        self._follower.set_ports(port_ids)
        self._on_change()

    def _record_changed(self, port_id: str, record: PortState) -> None:
        if isinstance(record, MalformedRecord):
            LOG.error("port %s is not served: %s", port_id, record)
        with self._lock:
            # What is told of a port that has just gone is not kept: it may be old when it is back.
            if port_id in self._followed:
                self._records[port_id] = record
        self._on_change()

    def _complain(self, bound: Bound) -> None:
        complaints = {
            **bound.refused,
            **{
                port.interface: port.disagreement
                for port in bound.served.values()
                if port.disagreement
            },
        }
        for interface, reason in complaints.items():
            if self._complaints.get(interface) != reason:
                LOG.warning("interface %s is not served: %s", interface, reason)
        self._complaints = complaints
