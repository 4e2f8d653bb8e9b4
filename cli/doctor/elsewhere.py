"""Interfaces on other bridges than the agent's, and the bridge's controllers, out of OVSDB.

One call on a connection of its own: no other part needs these columns. Blocking.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb_call import call

TIMEOUT = 5.0
"""Seconds that OVSDB may take to answer."""

_COLUMNS = {
    "Bridge": ["name", "ports", "fail_mode", "controller", "flow_tables"],
    "Port": ["_uuid", "interfaces"],
    "Interface": ["_uuid", "name", "external_ids"],
    "Controller": ["_uuid", "target", "is_connected"],
    "Flow_Table": ["_uuid", "flow_limit"],
}


@dataclass(frozen=True, slots=True)
class OtherInterface:
    """An interface of another bridge, and the names that it gives the port."""

    bridge: str
    name: str
    external_ids: Mapping[str, str]

    def is_named(self, selector: str) -> bool:
        """Whether a selector names it: interface, port UUID or instance UUID."""
        ids = (self.external_ids.get("iface-id"), self.external_ids.get("vm-uuid"))
        return selector.lower() in {each.lower() for each in (self.name, *ids) if each}


@dataclass(frozen=True, slots=True)
class TableLimit:
    """A limit on the flows of some tables of our bridge. row: of OVSDB's Flow_Table."""

    tables: tuple[int, ...]
    flows: int
    row: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """OVSDB's other bridges, and what controls ours.

    controllers: target of each of our bridge's controllers, and whether it is connected.
    """

    bridges: tuple[str, ...] = ()
    interfaces: tuple[OtherInterface, ...] = ()
    fail_mode: str = ""
    controllers: Mapping[str, bool] | None = None
    limits: tuple[TableLimit, ...] = ()

    @property
    def fails_open(self) -> bool:
        """Whether the bridge switches by itself, because no controller of its own is connected."""
        connected = (self.controllers or {}).values()
        return bool(connected) and not any(connected) and self.fail_mode != "secure"


def read_elsewhere(config: Config) -> Elsewhere:
    """Read it; what cannot be read is left out, since other hops report that."""
    selects = [
        {"op": "select", "table": table, "where": [], "columns": columns}
        for table, columns in _COLUMNS.items()
    ]
    try:
        answer = call(config.ovsdb_connection, TIMEOUT, "transact", ["Open_vSwitch", *selects])
        rows = (each["rows"] for each in answer)
        return from_rows(config.bridge, dict(zip(_COLUMNS, rows, strict=False)))
    except (OSError, KeyError, TypeError, ValueError):
        return Elsewhere()


Rows = list[dict[str, Any]]


def from_rows(bridge: str, rows: Mapping[str, Rows]) -> Elsewhere:
    """The facts in OVSDB's rows, by table, in the notation of RFC 7047."""
    bridges = rows["Bridge"]
    interfaces_of = {row["_uuid"][1]: _uuids(row["interfaces"]) for row in rows["Port"]}
    named = {
        row["_uuid"][1]: (row["name"], dict(row["external_ids"][1])) for row in rows["Interface"]
    }
    controllers = {
        row["_uuid"][1]: (row["target"], row["is_connected"]) for row in rows["Controller"]
    }
    ours = next((row for row in bridges if row["name"] == bridge), None)
    return Elsewhere(
        tuple(sorted(row["name"] for row in bridges)),
        tuple(
            OtherInterface(row["name"], *named[interface])
            for row in bridges
            if row is not ours
            for port in _uuids(row["ports"])
            for interface in interfaces_of[port]
        ),
        ours["fail_mode"] if ours and isinstance(ours["fail_mode"], str) else "",
        dict(controllers[each] for each in _uuids(ours["controller"])) if ours else {},
        tuple(_limits(ours, rows["Flow_Table"])) if ours else (),
    )


def _limits(ours: dict[str, Any], tables: Rows) -> Iterator[TableLimit]:
    """A limit is an integer, or an empty set where there is none."""
    for row in tables:
        uuid, limit = row["_uuid"][1], row["flow_limit"]
        numbers = [number for number, (_, used) in ours["flow_tables"][1] if used == uuid]
        if isinstance(limit, int) and numbers:
            yield TableLimit(tuple(sorted(numbers)), limit, uuid)


def _uuids(value: list[Any]) -> list[str]:
    """The UUIDs of a column: one, or a set of them."""
    kind, content = value
    return [each[1] for each in content] if kind == "set" else [content]
