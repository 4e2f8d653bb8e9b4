"""The replica of what this host needs of OVN's southbound database.

The server filters the rows (conditional monitoring), so memory and traffic do not depend on the
deployment. It reads a whole table whenever a condition on it changes, and serves all hypervisors in
one thread. So conditions change seldom: the ports of this chassis come by its row's UUID, and only
a port that OVN does not bind here is asked for by name. The flows of disabled ports come by their
actions, for the whole deployment, because they are few.

The schema is not fetched: the few columns are the same in all releases of OVN, and a start during
an outage has to work.
"""

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from ovs_metadata.host.confirming_idl import ConfirmingIdl
from ovs_metadata.host.python_ovs import SchemaHelper, Stream, jsonrpc
from ovs_metadata.host.southbound.binding import KEYS, NEUTRON, PortBinding, sub_ports_of
from ovs_metadata.host.southbound.location import Location
from ovs_metadata.host.southbound.presence import ChassisPresence
from ovs_metadata.regular_file import open_regular
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.record import SubPort

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
        "tag": {"type": {"key": "integer", "min": 0, "max": 1}},
    },
    "Logical_Flow": {"match": _TEXT, "actions": _TEXT},
}
"""What is followed of the southbound database, as a schema (RFC 7047) has it."""

PRESENCE_TABLES: Mapping[str, Mapping[str, Any]] = {
    "SB_Global": {"nb_cfg": {"type": "integer"}},
    "Chassis_Private": {"name": _TEXT, "external_ids": _MAP},
}
"""What is followed as well by who shows the agent in Neutron's list (see `presence`)."""

_DROPS = "reg0[15] = 1; next;"
"""actions of the logical flow by which ovn-northd drops what a disabled port sends (northd.c,
build_lswitch_port_sec_op, REGBIT_PORT_SEC_DROP); no other flow has exactly these."""

_OF_PORT = 'inport == "{}"'
"""match of that flow."""


class SouthboundReplica(ConfirmingIdl):
    """The rows of the followed ports, and of this chassis.

    Args:
        location: where the database is.
        shows_agent: show this host's agent in Neutron's list.

    Raises:
        StoreError: a file of TLS cannot be opened.
    """

    def __init__(self, location: Location, *, shows_agent: bool = False) -> None:
        if location.tls:
            for path in (location.tls.key, location.tls.certificate, location.tls.authorities):
                _check_regular(Path(path))
            # Of the whole process; what else it connects to by python-ovs is on this host.
            Stream.ssl_set_private_key_file(location.tls.key)
            Stream.ssl_set_certificate_file(location.tls.certificate)
            Stream.ssl_set_ca_cert_file(location.tls.authorities)
        tables = {**TABLES, **(PRESENCE_TABLES if shows_agent else {})}
        helper = SchemaHelper(
            schema_json={
                "name": "OVN_Southbound",
                "tables": {name: {"columns": columns} for name, columns in tables.items()},
            }
        )
        helper.register_all()
        super().__init__(
            location.remote, helper, probe_interval=location.probe_interval, leader_only=False
        )
        self.location = location
        self._touched: set[str] | None = None  # None: any port may be
        self._missing_since: dict[str, float] = {}
        self._were_here: set[str] = set()
        self._asked: set[str] = set()
        self._asked_chassis: UUID | None = None
        self._presence = ChassisPresence(location.chassis, self._transact) if shows_agent else None
        if shows_agent:
            self.cond_change("Chassis_Private", [["name", "==", location.chassis]])
        self.cond_change("Chassis", [["name", "==", location.chassis]])
        self.cond_change("Logical_Flow", [["actions", "==", _DROPS]])
        self.cond_change("Port_Binding", [])

    @property
    def is_up(self) -> bool:
        """Whether the rows are those of the database."""
        return bool(self.state == self.IDL_S_MONITORING and self._session.is_connected())

    @property
    def chassis(self) -> UUID | None:
        """The UUID of this chassis' row; None while OVN does not know it."""
        return next(iter(self.tables["Chassis"].rows), None)

    def follow(self, port_ids: set[str], patience: float) -> float | None:
        """Have the server send the rows of these ports.

        Args:
            port_ids: the ports.
            patience: seconds that OVN gets for binding a port that is plugged in here.

        Returns:
            Seconds until the next call is due; None without a limit.
        """
        if not self.is_up:
            self._missing_since = {}
            return None
        chassis, now = self.chassis, time.monotonic()
        rows = self.tables["Port_Binding"].rows.values()
        here = {row.logical_port for row in rows if chassis and chassis in row.chassis}
        missing = port_ids - here
        self._missing_since = {
            # What has just left this chassis is elsewhere, or bound no more: there is no time.
            port_id: 0.0 if port_id in self._were_here else self._missing_since.get(port_id, now)
            for port_id in missing
        }
        self._were_here = here
        due = {port_id: since + patience - now for port_id, since in self._missing_since.items()}
        wanted = {port_id for port_id, pause in due.items() if pause <= 0}
        if chassis != self._asked_chassis or not wanted <= self._asked:
            self._asked, self._asked_chassis = wanted, chassis
            clauses: list[Any] = [["logical_port", "==", port_id] for port_id in sorted(wanted)]
            clauses += [["chassis", "==", ["uuid", str(chassis)]]] if chassis else []
            self.cond_change("Port_Binding", clauses)
        return min((pause for pause in due.values() if pause > 0), default=None)

    def covered(self) -> set[str]:
        """The ports whose rows are here, or of which it is known that there is none."""
        state = self.tables["Port_Binding"].condition_state
        asked = [
            {clause[2] for clause in condition if clause is not False and clause[0] != "chassis"}
            for condition in (state.acked, state.requested)
            if condition is not None
        ]
        rows = self.tables["Port_Binding"].rows.values()
        return set.intersection(*asked) | {row.logical_port for row in rows}

    def take_touched(self) -> set[str] | None:
        """The ports whose rows have changed since the last call; None: any may have."""
        touched, self._touched = self._touched, set()
        return touched

    def bindings(self, port_ids: Collection[str]) -> dict[str, PortBinding | None]:
        """The bindings of these ports; None for one without."""
        if not port_ids:
            return {}
        rows = {row.logical_port: row for row in self.tables["Port_Binding"].rows.values()}
        ours = self.chassis
        dropped = {row.match for row in self.tables["Logical_Flow"].rows.values()}
        children: dict[str, list[tuple[int, str]]] = {}
        for row in rows.values():
            for parent, tag in zip(row.parent_port, row.tag, strict=False):
                children.setdefault(parent, []).append((tag, row.logical_port))
        return {
            port_id: _binding(
                row,
                ours,
                disabled=_OF_PORT.format(port_id) in dropped,
                sub_ports=sub_ports_of(children.get(port_id, ())),
            )
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
            case "SB_Global" | "Chassis_Private":
                pass
            case "Port_Binding":
                # What a parent's binding is depends on the rows that name it, or did.
                before = getattr(updates, "parent_port", [])
                self._touched |= {row.logical_port, *row.parent_port, *before}
            case "Logical_Flow":
                prefix, _, suffix = _OF_PORT.partition("{}")
                self._touched.add(row.match.removeprefix(prefix).removesuffix(suffix))
            case _:
                self._touched = None

    def run(self) -> bool:
        """Take in what has come; returns whether there was something."""
        changed = bool(super().run())
        if self.state != self.IDL_S_MONITORING:
            self._touched = None  # rows that have gone while there was no connection do not notify
            if self._presence:
                self._presence.connected()
        return changed

    def show_agent(self) -> float | None:
        """Show the agent in Neutron's list; returns seconds until the next call is due."""
        if self._presence is None or not self.is_up:
            return None
        numbers = [row.nb_cfg for row in self.tables["SB_Global"].rows.values()]
        chassis = [row.external_ids for row in self.tables["Chassis_Private"].rows.values()]
        if not numbers or not chassis:
            return None  # ovn-controller makes the row
        return self._presence.update(chassis[0], numbers[0])

    def _transact(
        self, operations: list[dict[str, Any]], on_answer: Callable[[object], None]
    ) -> bool:
        message = jsonrpc.Message.create_request("transact", [self._db.name, *operations])
        if self._session.send(message):
            return False
        self._outstanding_txns[message.id] = _Write(on_answer)
        return True


class _Write:
    """Operations among python-ovs's outstanding transactions."""

    def __init__(self, on_answer: Callable[[object], None]) -> None:
        self._on_answer = on_answer

    def _process_reply(self, message: Any) -> None:
        is_error = message.type == jsonrpc.Message.T_ERROR
        self._on_answer([{"error": str(message.error)}] if is_error else message.result)

    @property
    def _status(self) -> None:
        return None

    @_status.setter
    def _status(self, _value: Any) -> None:
        """The connection is lost, and perhaps the operations with it."""
        self._on_answer(None)


def _binding(
    row: Any, chassis: UUID | None, *, disabled: bool, sub_ports: tuple[SubPort, ...]
) -> PortBinding:
    external_ids = row.external_ids
    return PortBinding(
        {key: external_ids[NEUTRON + key] for key in KEYS if NEUTRON + key in external_ids},
        tuple(row.mac),
        row.parent_port[0] if row.parent_port else "",
        "" if not row.chassis else "this" if row.chassis[0] == chassis else "another",
        disabled,
        sub_ports,
    )


def _check_regular(path: Path) -> None:
    """Check what OpenSSL is about to open: it would wait for the writer of a FIFO."""
    try:
        open_regular(path).close()
    except OSError as error:
        why = f"OVN's southbound database cannot be used: {path}: {error.strerror}"
        raise StoreError(why) from error
