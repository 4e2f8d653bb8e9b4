"""A port as `ovs-metadata port list` shows it: its record, and what this host knows of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netaddr import AddrFormatError

from ovs_metadata.agent.response_class import last_response
from ovs_metadata.cli.port_status import record_in
from ovs_metadata.host.address import ofport_at, place_of_address, vlan_at
from ovs_metadata.store.interface import BoundElsewhere, MalformedRecord, PortState
from ovs_metadata.store.record import PortRecord

COLUMNS = [
    *("port", "fixed IPs", "ofport", "requests", "last answer"),
    *("when", "instance", "port address"),
]
"""In the order in which a narrow terminal leaves them out, the last one first."""

LONG = ["project", "MAC", "network", "revision"]


@dataclass(frozen=True, slots=True)
class ListedPort:
    """What the store has of a port, and what the agent of this host says of it, if it is here."""

    port_id: str
    state: PortState
    here: dict[str, Any] | None

    def document(self) -> dict[str, Any]:
        """Return the record, or its fault, and `here` if the port is on this host."""
        where = {"ofport": self._ofport, "vlan": vlan_at(self._place or 0)}
        here = {} if self.here is None else {"here": {**self.here, **where}}
        match self.state:
            case PortRecord():
                return {**self.state.document(), **here}
            case BoundElsewhere(record):
                return {**record.document(), "bound_elsewhere": True, **here}
            case MalformedRecord():
                return {"port_id": self.port_id, "malformed": self.state.reason, **here}
            case None:
                return {"port_id": self.port_id, **here}

    def cells(self, show_all: bool) -> list[str | Sequence[str]]:
        """Return the cells of `COLUMNS`, and if asked of `LONG`, too."""
        record = record_in(self.state)
        cells: list[str | Sequence[str]] = [
            self.port_id,
            record.fixed_ips if record else self._why_no_record,
            *self._activity(),
            record.device_id if record else "",
            self._address,
        ]
        if not show_all:
            return cells
        if record is None:
            return cells + [""] * len(LONG)
        revision = str(record.revision_number)
        return [*cells, record.project_id, record.mac_address, record.network_id, revision]

    def _activity(self) -> list[str]:
        """Its ofport, requests, last answer and when that was."""
        here = self.here
        if here is None:
            return [""] * 4
        return [
            self._where,
            str(here["requests"]),
            f"pending: {here['reason']}" if here["reason"] else last_response(here),
            here["last_time"] or "",
        ]

    @property
    def _address(self) -> str:
        """The port address of IPv4; that of IPv6 is of the same place."""
        return self.here["addresses"][0] if self.here and self.here["addresses"] else ""

    @property
    def _place(self) -> int | None:
        try:
            return place_of_address(self._address)
        except AddrFormatError:
            return None

    @property
    def _ofport(self) -> int | None:
        return None if self._place is None else ofport_at(self._place)

    @property
    def _where(self) -> str:
        vlan = vlan_at(self._place or 0)
        return f"{self._ofport} VLAN {vlan}" if vlan else str(self._ofport or "")

    @property
    def _why_no_record(self) -> str:
        state = self.state
        return f"malformed: {state.reason}" if isinstance(state, MalformedRecord) else "no record"


@dataclass(frozen=True, slots=True)
class RefusedInterface:
    """An interface of this host that claims a port and is refused."""

    interface: str
    reason: str

    def document(self) -> dict[str, str]:
        """Return the interface and the reason."""
        return {"interface": self.interface, "refused": self.reason}

    def cells(self, show_all: bool) -> list[str | Sequence[str]]:
        """Return the cells of `COLUMNS`, the interface in place of the port."""
        cells: list[str | Sequence[str]] = [""] * (len(COLUMNS) + (len(LONG) if show_all else 0))
        cells[0] = self.interface
        cells[COLUMNS.index("last answer")] = f"refused: {self.reason}"
        return cells
