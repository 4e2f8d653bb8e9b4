"""Interfaces on other bridges than the agent's, and the bridge's controllers, out of OVSDB.

One call on a connection of its own: no other part needs these columns. Blocking.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb_call import call

TIMEOUT = 5.0
"""Seconds that OVSDB may take to answer."""

_COLUMNS = {
    "Bridge": ["name", "ports", "fail_mode", "controller"],
    "Port": ["_uuid", "interfaces"],
    "Interface": ["_uuid", "name", "external_ids"],
    "Controller": ["_uuid", "target", "is_connected"],
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
class Elsewhere:
    """OVSDB's other bridges, and what controls ours.

    controllers: target of each of our bridge's controllers, and whether it is connected.
    """

    bridges: tuple[str, ...] = ()
    interfaces: tuple[OtherInterface, ...] = ()
    fail_mode: str = ""
    controllers: Mapping[str, bool] | None = None

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
        return from_rows(config.bridge, *(each["rows"] for each in answer))
    except (OSError, KeyError, TypeError, ValueError):
        return Elsewhere()


Rows = list[dict[str, Any]]


def from_rows(
    bridge: str, bridges: Rows, ports: Rows, interfaces: Rows, control: Rows
) -> Elsewhere:
    """The facts in OVSDB's rows, in the notation of RFC 7047."""
    interfaces_of = {row["_uuid"][1]: _uuids(row["interfaces"]) for row in ports}
    named = {row["_uuid"][1]: (row["name"], dict(row["external_ids"][1])) for row in interfaces}
    controllers = {row["_uuid"][1]: (row["target"], row["is_connected"]) for row in control}
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
    )


def _uuids(value: list[Any]) -> list[str]:
    """The UUIDs of a column: one, or a set of them."""
    kind, content = value
    return [each[1] for each in content] if kind == "set" else [content]
