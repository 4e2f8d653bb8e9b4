"""OVSDB: the bridge and its interfaces, live, and the writes we make there.

One thread (ovsdbapp's connection thread) keeps a replica of the few columns we need, reconnecting
by itself; after each batch of changes it makes a `Bridge` value of them and tells the listener,
on that thread. Lives from construction to `close`. Works in processes patched by eventlet, too.
"""

import contextlib
import errno
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ovs_metadata.host.address import METADATA_PORT, METADATA_PORT_MTU
from ovs_metadata.host.confirming_idl import ConfirmingIdl
from ovs_metadata.host.join import Interface
from ovs_metadata.host.ovsdb_schema import schema_helper
from ovs_metadata.host.port_rows import PortRows
from ovs_metadata.host.python_ovs import (
    ROW_DELETE,
    command,
    connection,
    exceptions,
    transaction,
)
from ovs_metadata.host.shared_map import SharedMap

COLUMNS = {
    "Open_vSwitch": ["bridges"],
    "Bridge": ["name", "ports", "datapath_id", "protocols", "flow_tables"],
    "Port": ["name", "interfaces", "tag", "trunks", "vlan_mode", "external_ids"],
    "Interface": ["name", "ofport", "ofport_request", "external_ids", "type", "mtu_request"],
    "Flow_Table": ["name"],
}
"""What is followed, by table."""

CLOSE_TIMEOUT = 5.0
"""Seconds that `close` waits for a change that OVSDB has not answered."""

METADATA_PORT_OWNER = ("ovs-metadata", "metadata-port")
"""external_ids entry of the Port row of our metadata port; a port without it is not ours."""

ISOLATED_VLAN = 4095
"""VLAN that NORMAL may use on the metadata port: one that no kernel accepts a frame of.

So the only frames that reach the proxy's network stack are those our own flows output there,
untagged. Without this a bridge that switches by NORMAL would let any neighbour speak to the proxy
under any port address.
"""


_NEEDED = ": connecting needs root and, where Open vSwitch runs as another user, CAP_DAC_OVERRIDE"


class OvsdbUnreachable(Exception):
    """No OVSDB answers at the configured connection."""


class OvsdbRefused(Exception):
    """OVSDB did not carry out a change; the message says why."""


@dataclass(frozen=True, slots=True)
class MetadataPort:
    """The port named `metadata`: whether it is ours, and set up so that only flows reach it.

    `ofport` is None until ovs-vswitchd has made its device. `mtu_request` is None where the port
    has no MTU of its own.
    """

    ofport: int | None
    ours: bool
    isolated: bool
    mtu_request: int | None = METADATA_PORT_MTU


@dataclass(frozen=True, slots=True)
class Bridge:
    """One bridge as OVSDB shows it; `interfaces`, by name, are all but the metadata port's.

    `protocols` is empty when the bridge speaks all versions of OpenFlow. `table_names` holds the
    numbers and names of Flow_Table. `row` names its row: a bridge deleted and made again has
    another.
    """

    name: str
    datapath_id: str | None = None
    protocols: frozenset[str] = frozenset()
    table_names: tuple[tuple[int, str], ...] = ()
    interfaces: SharedMap[str, Interface] = field(default_factory=SharedMap)
    metadata_port: MetadataPort | None = None
    row: UUID | None = None

    @property
    def metadata_ofport(self) -> int | None:
        """The ofport of our metadata port, once it has a device, and only flows lead there."""
        port = self.metadata_port
        return port.ofport if port and port.ours and port.isolated else None


Write = Callable[[Any, Any, Any], None]
"""Called with an open transaction, the bridge's row (None without a bridge), and all tables."""


class Ovsdb:
    """A connection to the local OVSDB that follows one bridge."""

    def __init__(
        self,
        target: str,
        bridge: str,
        on_change: Callable[[Bridge | None], None],
        timeout: float = 10.0,
    ) -> None:
        """Connect; raises OvsdbUnreachable when nothing answers within `timeout` seconds.

        That long it may take to tell its schema, then its contents, and later to take a change.
        `on_change` gets the bridge, or None when there is none of that name: once before this
        returns, then from the connection's thread whenever anything about it changed.
        """
        self._name = bridge
        self._on_change = on_change
        self._last: Bridge | None = None
        self._left: set[int] | None = None
        self._taking = threading.Lock()
        try:
            helper = schema_helper(target, timeout)
            for table, columns in COLUMNS.items():
                helper.register_columns(table, columns)
            self.idl = _Replica(target, helper)
            self._connection = connection.Connection(self.idl, timeout)
            self._start(timeout)
        except Exception as error:
            # python-ovs has no exception of its own for "no answer".
            what = f"OVSDB at {target} is unreachable: {error}"
            if os.strerror(errno.EACCES) in str(error):
                what += _NEEDED
            raise OvsdbUnreachable(what) from error
        with self._connection.lock:
            self.idl.on_change = self._changed
            self.idl.take_left()
            self._last = self._read()
            on_change(self._last)

    @property
    def bridge(self) -> Bridge | None:
        """The bridge as last seen."""
        return self._last

    def take_left(self) -> frozenset[int] | None:
        """Return the numbers that ports have left since the last call; None: any may have been.

        Any thread may call it. What it returns is no older than the bridge that `on_change` got.
        """
        with self._taking:
            left, self._left = self._left, set()
        return left if left is None else frozenset(left)

    def close(self) -> None:
        """Stop the thread and drop the connection; `on_change` is not called afterwards."""
        self.idl.on_change = None
        # What waits there while OVSDB does not answer would have `stop` wait for ever.
        while self._connection.txns.get_nowait() is not None:
            pass
        self._connection.stop(timeout=CLOSE_TIMEOUT)

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """Call back once `on_change` has seen everything committed before this call.

        Any thread may call it; it does not block. The call comes from the connection's thread. It
        does not come while OVSDB does not answer; after a reconnection it comes after the new
        contents. Calls that come before the previous answer share one round trip.
        """
        self.idl.wanted.put(on_confirmed)
        # If it is full, the thread is awake, and looks at what is wanted after the work it has.
        with contextlib.suppress(queue.Full):
            self._connection.txns.put(_Nudge(self.idl), block=False)

    def transact(self, write: Write) -> None:
        """Run `write` on the connection's thread and commit what it did.

        Does not wait for ovs-vswitchd to act on it.

        Raises:
            OvsdbRefused: that did not work, or OVSDB did not answer in time.
        """
        change = transaction.Transaction(self, self._connection, check_error=True, log_errors=False)
        change.add(_Command(self, lambda txn: write(txn, self._row(), self.idl.tables)))
        try:
            change.commit()
        except (exceptions.OvsdbAppException, RuntimeError) as error:
            raise OvsdbRefused(f"OVSDB refused a change: {error}") from error

    def _start(self, timeout: float) -> None:
        """Fetch the contents, and start the thread; raises Exception, and leaves nothing open."""
        try:
            self._connection.start()
        except BaseException as error:
            self.idl.close()
            if isinstance(error, exceptions.TimeoutException):
                raise OSError(f"it does not tell its contents within {timeout:g} s") from error
            raise

    def _changed(self) -> None:
        left = self.idl.take_left()
        with self._taking:
            self._left = None if left is None or self._left is None else self._left | left
        state = self._read()
        if state != self._last or left is None or left:
            self._last = state
            self._on_change(state)

    def _row(self) -> Any:
        rows = self.idl.tables["Bridge"].rows.values()
        return next((row for row in rows if row.name == self._name), None)

    def _read(self) -> Bridge | None:
        row = self._row()
        interfaces, metadata_port = self.idl.ports_of(row)
        if row is None:
            return None
        return Bridge(
            name=row.name,
            datapath_id=_optional(row.datapath_id),
            protocols=frozenset(row.protocols),
            table_names=tuple(
                sorted(
                    (number, each.name[0]) for number, each in row.flow_tables.items() if each.name
                )
            ),
            interfaces=interfaces,
            metadata_port=metadata_port,
            row=row.uuid,
        )


class _Replica(ConfirmingIdl):
    """The IDL: calls `on_change` once per batch of messages, and confirms what it has seen."""

    on_change: Callable[[], None] | None = None

    def __init__(self, target: str, helper: Any) -> None:
        super().__init__(target, helper)
        self._left: set[int] | None = None  # None: the contents are new as a whole
        self._seen_seqno: int | None = None
        self._ports = PortRows(_interfaces)
        self._interfaces: SharedMap[str, Interface] = SharedMap()
        self._metadata_port: MetadataPort | None = None

    def ports_of(self, bridge: Any) -> tuple[SharedMap[str, Interface], MetadataPort | None]:
        """The interfaces of a Bridge row, by name, and the metadata port; None: no bridge."""
        gone, come = self._ports.changes(bridge, self.tables["Port"].rows)
        self._interfaces = self._interfaces.with_changes(
            {each.name: each for each in come if isinstance(each, Interface)},
            gone=(each.name for each in gone if isinstance(each, Interface)),
        )
        if any(isinstance(each, MetadataPort) for each in (*gone, *come)):
            found = (each for each in come if isinstance(each, MetadataPort))
            self._metadata_port = next(found, None)
        return self._interfaces, self._metadata_port

    def take_left(self) -> set[int] | None:
        """The numbers that interfaces have left since the last call; None: any may have been."""
        left, self._left = self._left, set()
        return left

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Note what a change is about (called for each row that changes)."""
        super().notify(event, row, updates)
        self._ports.notified(row)
        if row._table.name == "Interface" and self._left is not None:
            # Of an update `updates` has what it changed, as it was; of a new row there is none.
            self._left |= set(getattr(row if event == ROW_DELETE else updates, "ofport", ()))

    def run(self) -> bool:
        changed = bool(super().run())
        if self.state != self.IDL_S_MONITORING:
            self._left = None  # what changes until there is a connection again is not notified
        # Not by `changed`: an exception above may have hidden a change from the last call.
        seqno = self.change_seqno
        if self.on_change and seqno != self._seen_seqno and self.state == self.IDL_S_MONITORING:
            self.on_change()
            self._seen_seqno = seqno
        self.confirm_wanted()
        return changed


class _Nudge:
    """Wakes the connection's thread: ovsdbapp takes it for a transaction."""

    def __init__(self, replica: _Replica) -> None:
        self.results: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._replica = replica

    def do_commit(self) -> None:
        self._replica.confirm_wanted()


class _Command(command.BaseCommand):  # type: ignore[misc]
    """ovsdbapp's form of a function that writes."""

    def __init__(self, api: Any, write: Callable[[Any], None]) -> None:
        super().__init__(api)
        self._write = write

    def run_idl(self, txn: Any) -> None:
        self._write(txn)


def _interfaces(port: Any) -> tuple[Interface | MetadataPort, ...]:
    """The interfaces of a Port row."""
    if port.name == METADATA_PORT:
        return (_metadata_port(port),)
    tag = _optional(port.tag)
    return tuple(_interface(row, tag) for row in port.interfaces)


def _interface(row: Any, tag: int | None) -> Interface:
    external_ids = row.external_ids
    return Interface(
        name=row.name,
        ofport=_optional(row.ofport),
        iface_id=external_ids.get("iface-id"),
        vm_uuid=external_ids.get("vm-uuid"),
        tag=tag,
        ofport_request=_optional(row.ofport_request),
        attached_mac=external_ids.get("attached-mac"),
    )


def _metadata_port(port: Any) -> MetadataPort:
    interface = port.interfaces[0]
    ofport = _optional(interface.ofport)
    key, value = METADATA_PORT_OWNER
    return MetadataPort(
        ofport=ofport if ofport and ofport > 0 else None,
        ours=port.external_ids.get(key) == value and interface.type == "internal",
        isolated=(_optional(port.vlan_mode), list(port.trunks), _optional(port.tag))
        == ("trunk", [ISOLATED_VLAN], None),
        mtu_request=_optional(interface.mtu_request),
    )


def _optional(column: Any) -> Any:
    """A column of zero or one value, as OVSDB has them: the value, or None."""
    return column[0] if column else None
