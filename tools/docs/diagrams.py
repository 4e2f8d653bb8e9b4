"""Writes the diagrams of docs/images. A unit test compares the files with what `documents` gives.

Addresses, ports, tables and the ways between tables are those of the code, so a diagram that is up
to date is right about them.
"""

from collections.abc import Mapping
from pathlib import Path

from docs.connection_states import connection_states
from docs.diagram import Arrow, Box, Diagram, Group, svg
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import Table, table_names
from ovs_metadata.flows.values import (
    Flow,
    GotoTable,
    Output,
    OutputInPort,
)
from ovs_metadata.host.address import (
    PROXY_PORT,
    SERVICE_IPV4,
    SERVICE_PORT,
    port_address,
)
from ovs_metadata.host.config import FlowOptions

DIRECTORY = Path(__file__).resolve().parents[2] / "docs" / "images"

OPTIONS = FlowOptions()
METADATA_OFPORT = 1
PORT = Port(2, "fa:16:3e:00:00:01")
GUEST = "10.0.0.5"
NAMES = table_names(OPTIONS.table_base)


def name_of(table: Table) -> str:
    """A table's name in the switch."""
    return NAMES[OPTIONS.table_base + table]


def request() -> Diagram:
    """A request and its response: packet, flow, destination address."""
    address = port_address(PORT.ofport, 4)
    service, proxy = f"{SERVICE_IPV4}:{SERVICE_PORT}", f"{address}:{PROXY_PORT}"
    guest = f"{GUEST}:40000"
    return Diagram(
        "A request and its response: what each flow writes into the packet",
        [
            Box("guest", 0, 0, "Instance", (f"{GUEST}, {PORT.mac}",), "end"),
            Box("hook", 0, 1, "Table 0", (f"hook of ofport {PORT.ofport}",)),
            Box(
                *("to", 0, 2, name_of(Table.ToProxy)),
                (f"destination := {address}", f"destination port := {PROXY_PORT}"),
            ),
            Box("port", 0, 3, "Metadata port", (f"ofport {METADATA_OFPORT}",), "plain"),
            Box(
                *("worker", 0, 4, "Proxy worker"),
                (f"to {address}: ofport {PORT.ofport}", "identity table: ofport → instance"),
            ),
            Box("nova", 0, 5, "Nova's metadata API", (), "end"),
            Box("back", 1, 3, "Table 0", (f"hook of ofport {METADATA_OFPORT}",)),
            Box("from", 1, 2, name_of(Table.FromProxy), (f"source port := {SERVICE_PORT}",)),
            Box(
                *("instance", 1, 1, name_of(Table.ToInstance)),
                (f"source := {SERVICE_IPV4}", f"destination MAC := {PORT.mac}"),
            ),
        ],
        [
            Arrow("guest", "hook", (f"{guest} → {service}",)),
            Arrow("hook", "to"),
            Arrow("to", "port", (f"{guest} → {proxy}",)),
            Arrow("port", "worker"),
            Arrow("worker", "nova", ("X-Instance-ID, X-Tenant-ID, signature",)),
            Arrow("port", "back", (f"{proxy} → {guest}",)),
            Arrow("back", "from"),
            Arrow("from", "instance"),
            Arrow("instance", "guest", (f"{service} → {guest}",)),
        ],
    )


_TABLE_PLACES: Mapping[Table, tuple[int, int]] = {
    Table.Responder: (0, 2),
    Table.ToProxy: (2, 2),
    Table.FromProxy: (3, 2),
    Table.Advertise: (1, 3),
    Table.ToInstance: (3, 3),
}


def tables() -> Diagram:
    """The tables, and the ways of packets between them, as the pipeline's flows go."""
    flows = pipeline(OPTIONS, METADATA_OFPORT, [PORT]).values()
    arrows = dict.fromkeys(
        Arrow(f"from{dict(flow.key.match.fields)['in_port']}", "0")
        for flow in flows
        if flow.key.table == 0
    )
    for flow in flows:
        arrows |= dict.fromkeys(_ways(flow))
    return Diagram(
        "The tables of the pipeline, and the ways of packets between them",
        [
            Box(f"from{PORT.ofport}", 2, 0, "from an instance's port", (), "end"),
            Box(f"from{METADATA_OFPORT}", 3, 0, "from the metadata port", (), "end"),
            Box("0", 2, 1, "Table 0", ("our hooks, and other flows",), "plain"),
            *(
                Box(
                    str(OPTIONS.table_base + table),
                    *place,
                    f"{OPTIONS.table_base + table}",
                    (name_of(table),),
                )
                for table, place in _TABLE_PLACES.items()
            ),
            Box("asker", 0, 5, "back to the sender", (), "end"),
            Box(f"to{METADATA_OFPORT}", 2, 4, "to the metadata port", (), "end"),
            Box(f"to{PORT.ofport}", 3, 4, "to the instance's port", (), "end"),
        ],
        list(arrows),
    )


def _ways(flow: Flow) -> list[Arrow]:
    """Where a flow sends a packet."""
    table, found = str(flow.key.table), []
    for action in flow.actions:
        match action:
            case GotoTable(table=target):
                found.append(Arrow(table, str(target)))
            case Output(ofport=ofport):
                found.append(Arrow(table, f"to{ofport}"))
            case OutputInPort():
                found.append(Arrow(table, "asker"))
    return found


def processes() -> Diagram:
    """Processes, their users, and what passes between them."""
    return Diagram(
        "Processes and privileges: what runs as which user, and what passes between processes",
        [
            Box("store", 0, 0, "Store", ("ZooKeeper or a directory",), "end"),
            Box("ovsdb", 1, 0, "ovsdb-server", ("interfaces of the bridge",), "end"),
            Box("flows", 0, 1, "Flow controller", ("has: records", "no secret")),
            Box("agent", 1, 1, "ovs-metadata-agent", ("has: records, shared secret",)),
            Box(
                *("worker", 2, 1, "Proxy workers"),
                ("has: identities of this host", "no secret, no capability"),
            ),
            Box("vswitchd", 0, 2, "ovs-vswitchd", ("bridge br-int",), "end"),
            Box("port", 1, 2, "Metadata port", ("listening sockets",), "plain"),
            Box("nova", 2, 2, "Nova's metadata API", (), "end"),
        ],
        [
            Arrow("store", "flows", ("records",)),
            Arrow("store", "agent"),
            Arrow("ovsdb", "flows"),
            Arrow("ovsdb", "agent", ("interfaces",)),
            Arrow("agent", "flows", ("starts",)),
            Arrow("agent", "worker", ("identities,", "signatures")),
            Arrow("worker", "agent", ("reports",)),
            Arrow("flows", "vswitchd", ("flows, by br-int.mgmt",)),
            Arrow("agent", "port", ("creates",)),
            Arrow("vswitchd", "port", ("packets",)),
            Arrow("port", "worker", ("connections",)),
            Arrow("worker", "nova", ("signed requests",)),
        ],
        [
            Group("root", ("flows", "agent")),
            Group("unprivileged user", ("worker",)),
            Group("namespace ovs-metadata", ("port",)),
        ],
    )


def record() -> Diagram:
    """The life of a port record, from Neutron to the worker that uses it."""
    return Diagram(
        "The life of a port record, from Neutron to the proxy worker that uses it",
        [
            Box("neutron", 0, 0, "Neutron", ("port created, updated, deleted",), "end"),
            Box("plugin", 0, 1, "Service plugin", ("newest change of each port waits",)),
            Box("database", 1, 0, "Neutron's database", (), "end"),
            Box("reconciliation", 1, 1, "Reconciliation", ("compares all ports, all records",)),
            Box(
                "store", 0, 2, "Store", ("the higher revision wins", "a tombstone after a deletion")
            ),
            Box(
                "agent", 0, 3, "Agent", ("follows this host's ports", "joins interface and record")
            ),
            Box(
                "snapshot",
                1,
                2,
                "Snapshot",
                ("on disk, for a restart", "during an outage"),
                "plain",
            ),
            Box("ovsdb", 1, 3, "OVSDB", ("ofport, iface-id, vm-uuid",), "end"),
            Box("worker", 0, 4, "Proxy worker", ("port address → identity",)),
        ],
        [
            Arrow("neutron", "plugin", ("after the commit",)),
            Arrow("database", "reconciliation"),
            Arrow("plugin", "store", ("compare-and-set",)),
            Arrow("reconciliation", "store", ("repairs",)),
            Arrow("store", "agent", ("watch, then read",)),
            Arrow("agent", "snapshot", ("keeps",), weak=True),
            Arrow("ovsdb", "agent", ("live",)),
            Arrow("agent", "worker", ("each change of the identity table",)),
        ],
    )


DIAGRAMS = {
    "request": request,
    "tables": tables,
    "processes": processes,
    "record": record,
    "connection-states": connection_states,
}


def documents() -> dict[str, str]:
    """File name → content."""
    return {f"{name}.svg": svg(diagram()) for name, diagram in DIAGRAMS.items()}


def main() -> None:
    """Write all files."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in documents().items():
        (DIRECTORY / name).write_text(text)


if __name__ == "__main__":
    main()
