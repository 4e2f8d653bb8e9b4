"""This host's ports, live: OVSDB, the source of records, and options, followed together.

Callbacks come from OVSDB's thread and the followers'; all only replace a value under a lock and
tell the owner that something changed. The owner calls `state` when it gets round to it, however
many changes there were. Lives from construction to `close`.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ovs_metadata.host.incremental_join import IncrementalJoin
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.host.option_documents import NO_DOCUMENTS, Documents, OptionFollower
from ovs_metadata.host.ovsdb import Bridge, Ovsdb
from ovs_metadata.host.plugged_ports import PluggedPorts
from ovs_metadata.host.records import Records
from ovs_metadata.host.shared_map import SharedMap, changed_keys
from ovs_metadata.metadata_options import DEFAULT_POLICY, OptionPolicy
from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.store.interface import MalformedRecord, PortState

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostState:
    """The bridge (None when there is none) and the ports on it."""

    bridge: Bridge | None
    host_ports: HostPorts


class PortWatcher:
    """Follows one bridge, and the records and options of the ports on it."""

    def __init__(
        self,
        ovsdb_connection: str,
        bridge: str,
        records: Records,
        on_change: Callable[[], None],
        *,
        policy: OptionPolicy | None = DEFAULT_POLICY,
        documents: Documents | None = None,
    ) -> None:
        """Start following.

        Args:
            ovsdb_connection: OVSDB's server.
            bridge: its name.
            records: where port records are.
            on_change: called from any thread.
            policy: see `policy`.
            documents: where the options of networks and projects are; None: they do not count.

        Raises:
            OvsdbUnreachable: OVSDB does not answer.
        """
        self.policy = policy
        """The deployment's metadata options; the owner sets them. None: not known yet, and no port
        is decided."""
        self._on_change = on_change
        self._bridge_name = bridge
        self._lock = threading.Lock()
        self._bridge: Bridge | None = None
        self._ports = PluggedPorts()
        self._join = IncrementalJoin()
        self._unserved = ProblemLog(LOG, "interface %s")
        self._complained_of: Mapping[int, ServedPort] = {}
        self._disagreements: dict[int, str] = {}  # by place
        self._had_bridge: bool | None = None
        # Held while the followed documents change, so that the last change is the newest.
        self._following_options = threading.Lock()
        self._options = OptionFollower(documents, on_change) if documents else None
        self._follower = records.follow(self._record_changed)
        try:
            self.ovsdb = Ovsdb(ovsdb_connection, bridge, self._bridge_changed)
        except BaseException:
            self._close_followers()
            raise

    def close(self) -> None:
        """Stop following."""
        self.ovsdb.close()
        self._close_followers()

    def _close_followers(self) -> None:
        self._follower.close()
        if self._options:
            self._options.close()

    @property
    def bridge(self) -> Bridge | None:
        """The bridge as OVSDB last showed it."""
        with self._lock:
            return self._bridge

    def take_left(self) -> frozenset[int] | None:
        """Return the numbers that ports have left since the last call; None: any may have been.

        To be called after `state`: then it has all that was left up to that state.
        """
        return self.ovsdb.take_left()

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """Call back once `state` is no older than this call, in all that identities depend on.

        Any thread may call it; it does not block. The call comes from OVSDB's thread or the
        store's, after `on_change` for all changes before. It does not come while OVSDB does not
        answer.
        """

        def ovsdb_confirmed() -> None:
            if self.needs_store():
                self.confirm_store(on_confirmed)
            else:
                on_confirmed()

        self.ovsdb.confirm(ovsdb_confirmed)

    def confirm_store(self, on_confirmed: Callable[[], None]) -> None:
        """Do the part of `confirm` that concerns the store."""
        self._follower.confirm(on_confirmed)

    def needs_store(self) -> bool:
        """Whether the store has to be asked, too, once OVSDB has confirmed.

        It is asked where that costs nothing (a directory), and where a record is the only word on
        a port's instance. Elsewhere OVSDB's vm-uuid agrees with the record or the port is not
        served.
        """
        with self._lock:
            return self._follower.confirms_cheaply or not self._ports.corroborated

    def state(self) -> HostState:
        """The present state. Logs what is refused, once for each reason."""
        with self._lock:
            bridge, interfaces, records = self._bridge, self._ports.interfaces, self._ports.records
        documents = self._options.documents() if self._options else NO_DOCUMENTS
        host_ports = self._join.join(interfaces, records, self.policy, documents)
        self._complain(host_ports)
        return HostState(bridge, host_ports)

    def _bridge_changed(self, bridge: Bridge | None) -> None:
        present = bridge is not None
        if present != self._had_bridge:
            if present:
                LOG.info("bridge %s is there", self._bridge_name)
            else:
                LOG.warning("there is no bridge %s: waiting for it", self._bridge_name)
        self._had_bridge = present
        with self._lock:
            before = self._ports.needed
            self._bridge = bridge
            self._ports.plug(bridge.interfaces if bridge else SharedMap())
            needed = self._ports.needed
        self._follow(needed if needed is not before else None)

    def _record_changed(self, port_id: str, record: PortState) -> None:
        if isinstance(record, MalformedRecord):
            LOG.error("port %s is not served: %s", port_id, record)
        with self._lock:
            before = self._ports.needed
            # A report of a port that has just left is dropped: it may be old when the port returns.
            self._ports.report(port_id, record)
            needed = self._ports.needed
        self._follow(needed if needed is not before else None)

    def _follow(self, needed: frozenset[str] | None) -> None:
        """Follow these records, unless they are as before, and the options of the present ones."""
        while needed is not None:
            # Without the lock: the follower may be waiting for it. Meanwhile another thread may
            # have decided otherwise, and been first.
            self._follower.set_ports(needed)
            with self._lock:
                latest = self._ports.needed
            needed = latest if latest is not needed else None
        if self._options:
            with self._following_options:
                with self._lock:
                    records = self._ports.records
                self._options.follow(records)
        self._on_change()

    def _complain(self, host_ports: HostPorts) -> None:
        before, self._complained_of = self._complained_of, host_ports.served
        for place in changed_keys(before, host_ports.served):
            port = host_ports.served.get(place)
            self._disagreements.pop(place, None)
            if port and port.disagreement:
                self._disagreements[place] = f"{port.interface} is not served: {port.disagreement}"
        refused = host_ports.refused.items()
        self._unserved.found(
            [
                *(f"{interface} is not served: {reason}" for interface, reason in refused),
                *self._disagreements.values(),
            ]
        )
