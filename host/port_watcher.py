"""This host's ports, live: OVSDB, the source of records, and options, followed together.

Callbacks come from OVSDB's thread and the followers'; all only replace a value under a lock and
tell the owner that something changed. The owner calls `state` when it gets round to it, however
many changes there were. Lives from construction to `close`.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ovs_metadata.host.incremental_join import IncrementalJoin
from ovs_metadata.host.join import HostPorts, is_instances
from ovs_metadata.host.option_documents import NO_DOCUMENTS, Documents, OptionFollower
from ovs_metadata.host.ovsdb import Bridge, Ovsdb
from ovs_metadata.host.records import Records
from ovs_metadata.host.trunks import sub_port_ids
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
        self._plugged: frozenset[str] = frozenset()
        self._followed: frozenset[str] = frozenset()
        self._records: dict[str, PortState] = {}
        self._agreed: bool | None = None  # see `_corroborated`; None: to be found out
        self._join = IncrementalJoin()
        self._unserved = ProblemLog(LOG, "interface %s")
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
        return self._follower.confirms_cheaply or not self._corroborated()

    def _corroborated(self) -> bool:
        """Whether OVSDB itself names the instance of each port that has a record of one."""
        with self._lock:
            if self._agreed is None:
                self._agreed = not any(
                    is_instances(self._records.get(interface.port_id or ""))
                    for interface in (self._bridge.interfaces if self._bridge else ())
                    if not interface.vm_uuid
                )
            return self._agreed

    def state(self) -> HostState:
        """The present state. Logs what is refused, once for each reason."""
        with self._lock:
            bridge = self._bridge
            records = dict(self._records)
        interfaces = {each.name: each for each in bridge.interfaces} if bridge else {}
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
        port_ids = frozenset(
            interface.port_id
            for interface in (bridge.interfaces if bridge else ())
            if interface.port_id is not None
        )
        with self._lock:
            self._bridge = bridge
            self._agreed = None
            self._plugged = port_ids
        self._follow_records()
        self._follow_options()
        self._on_change()

    def _follow_records(self) -> None:
        """Follow the records of the plugged ports, and of the sub-ports that those name."""
        wanted = None
        while True:
            with self._lock:
                if wanted is self._followed:
                    return
                parents = (self._records.get(port_id) for port_id in self._plugged)
                wanted = self._followed = self._plugged | sub_port_ids(parents)
                self._records = {
                    port_id: record
                    for port_id, record in self._records.items()
                    if port_id in wanted
                }
            # Without the lock: the follower may be waiting for it. Meanwhile another thread may
            # have decided otherwise, and been first.
            self._follower.set_ports(wanted)

    def _follow_options(self, reported: tuple[PortState, ...] | None = None) -> None:
        """Follow the options of the present records' networks and projects.

        Args:
            reported: all that is new since; None: anything may be. To look at every record for each
                report would take long on a host with many ports.
        """
        if self._options is None:
            return
        with self._following_options:
            if reported is not None and all(map(self._options.follows, reported)):
                return
            with self._lock:
                records = list(self._records.values())
            self._options.follow(records)

    def _record_changed(self, port_id: str, record: PortState) -> None:
        if isinstance(record, MalformedRecord):
            LOG.error("port %s is not served: %s", port_id, record)
        with self._lock:
            # A report of a port that has just left is dropped: it may be old when the port returns.
            known = port_id in self._followed
            before = sub_port_ids([self._records.get(port_id)])
            if known:
                self._records[port_id] = record
                self._agreed = None
        if known and before != sub_port_ids([record]):
            self._follow_records()
        self._follow_options((record,))
        self._on_change()

    def _complain(self, host_ports: HostPorts) -> None:
        complaints = {
            **host_ports.refused,
            **{
                port.interface: port.disagreement
                for port in host_ports.served.values()
                if port.disagreement
            },
        }
        self._unserved.found(
            f"{interface} is not served: {reason}" for interface, reason in complaints.items()
        )
