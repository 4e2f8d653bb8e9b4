"""What one change of one port takes in the agent, by the number of ports.

From the update that OVSDB sends, or the content that the store reports, to the message to a worker.
ovsdb-server, the store and the worker's process are played. The counts are the same on any machine:
calls of Python functions, and executed bytecodes, among which is each step of a loop.
`make bench-change`.
"""

import gc
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, NamedTuple, cast
from unittest.mock import patch
from uuid import UUID

from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.config.deployment import Deployment
from ovs_metadata.agent.ovsdb_session import OvsdbSession
from ovs_metadata.agent.service import Service
from ovs_metadata.agent.systemd import Systemd
from ovs_metadata.host import ovsdb
from ovs_metadata.host.config import Config, FlowOptions, StoreOptions
from ovs_metadata.host.port_watcher import PortWatcher
from ovs_metadata.host.python_ovs import SchemaHelper
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store.layout import config_project_path, network_path
from ovs_metadata.store.listener_state import ListenerState
from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.node_type import DOCUMENTS, PORTS, NodeType
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

NUMBERS = (50, 4000)
"""Of ports."""

NETWORKS = 20
"""On which the ports are that do not change."""

CONFIG = Config(
    bridge="br-int",
    ovsdb_connection="unix:/nowhere",
    rundir=Path("/nowhere"),
    store_url="directory:/nowhere",
    store=StoreOptions(),
    host="hv1",
    namespace="ovs-metadata",
    state_dir=Path("/nowhere"),
    debug=False,
    workers=1,
    proxy_user="nobody",
    controller="external",
    flows=FlowOptions(),
    audit_interval=30,
    admin_listen=None,
)
_PROJECT = "project"
_NONE = ["set", []]
DEPLOYMENT = Deployment(enabled=True, secret=b"secret", settings=Settings())


class Count(NamedTuple):
    """What something takes."""

    calls: int
    bytecodes: int


class PlayedFollower:
    """Reports the given contents, as a follower of the store does."""

    confirms_cheaply = False

    def __init__(self, node_type: NodeType[Any], listener: Callable[[str, Any], None]) -> None:
        self._state = ListenerState(node_type, listener)
        self.set_ports = self._state.set_keys
        self.report = self._state.report


class PlayedStore:
    """Has one follower of records, and one of documents."""

    def follow(self, listener: Callable[[str, Any], None]) -> PlayedFollower:
        """See `Store`."""
        self.records = PlayedFollower(PORTS, listener)
        return self.records

    def follow_documents(self, listener: Callable[[str, Any], None]) -> PlayedFollower:
        """See `Store`."""
        self.documents = PlayedFollower(DOCUMENTS, listener)
        return self.documents


class Agent:
    """The parts of an agent that a change goes through, on a host with so many ports."""

    def __init__(self, ports: int) -> None:
        self.statistics = HostStatistics()
        self.sent: list[bytes] = []
        """What the worker was sent."""
        self.store = PlayedStore()
        self._service = Service(
            CONFIG,
            store=cast(Store, self.store),
            systemd=Systemd("", {}),
            ovsdb=OvsdbSession("", {}, lambda: None),
            deployment=DEPLOYMENT,
            statistics=self.statistics,
            on_end=lambda: None,
        )
        process = SimpleNamespace(returncode=None)
        worker = SimpleNamespace(process=process, write=self.sent.append)
        self._service._workers._feeds[0] = cast(Any, worker)
        numbers = range(1, ports + 1)
        self._watcher = self._watch(numbers)
        for number in numbers:
            self.record(number, network=number % NETWORKS)
            self.documents(network=number % NETWORKS)
        self.look()
        self.revalidate()

    def _watch(self, numbers: Collection[int]) -> PortWatcher:
        def connection(replica: Any, _timeout: float) -> Any:
            self._replica = replica
            return SimpleNamespace(lock=threading.Lock(), start=lambda: self._update(first))

        first = _inserted(numbers)
        bridge = {"name": CONFIG.bridge, "ports": _rows("Port", numbers)}
        first["Bridge"] = {_uuid("Bridge"): {"insert": bridge}}
        with (
            patch.object(ovsdb, "schema_helper", lambda *_: SchemaHelper(schema_json=_SCHEMA)),
            patch.object(ovsdb, "connection", SimpleNamespace(Connection=connection)),
        ):
            source = cast(Store, self.store)
            return PortWatcher(
                "unix:/nowhere", CONFIG.bridge, source, lambda: None, documents=source
            )

    def _update(self, update: dict[str, Any]) -> None:
        """OVSDB sends an update (ovsdb-server(7), update3)."""
        self._replica._Idl__parse_update(update, "update3")
        if self._replica.on_change:
            self._replica.on_change()

    def look(self) -> None:
        """Send workers what has changed, as the task does that changes wake."""
        self._service._update_workers(self._watcher)

    def refresh(self) -> None:
        """Look at the deployment's configuration, as every 10 s."""
        self._service.apply(DEPLOYMENT)

    def revalidate(self) -> None:
        """The datapath's flows have been revalidated."""
        self._service._stale.done(self._service._stale.begin())
        self.look()

    def plug(self, number: int) -> None:
        """A port appears, without an ofport."""
        update = _inserted([number], ofport=_NONE)
        self._update(update | {"Bridge": _modified("Bridge", 0, ports=_rows("Port", [number]))})
        self.look()

    def number(self, number: int, ofport: int) -> None:
        """A port gets an ofport."""
        self._update({"Interface": _modified("Interface", number, ofport=ofport)})
        self.look()

    def record(self, number: int, **changes: Any) -> None:
        """The store reports a record."""
        self.store.records.report(_uuid("id", number), _record(number, **changes).to_json())

    def documents(self, *, network: int, hop_limit: int = 0) -> None:
        """The store reports the documents of a project and of a network."""
        options = NetworkOptions(
            _uuid("network", network), _PROJECT, (f"metadata:hop-limit={hop_limit}",), 1
        )
        self.store.documents.report(config_project_path(_PROJECT), None)
        self.store.documents.report(
            network_path(options.network_id), options.to_json() if hop_limit else None
        )

    def unplug(self, number: int) -> None:
        """A port leaves."""
        self._update(
            {
                "Port": {_uuid("Port", number): {"delete": None}},
                "Interface": {_uuid("Interface", number): {"delete": None}},
                "Bridge": _modified("Bridge", 0, ports=_rows("Port", [number])),
            }
        )
        self.look()


def main() -> None:
    """Print a row of benchmarks/README.md for each change."""
    counts = [counts_of_changes(ports) for ports in NUMBERS]
    for change in counts[0]:
        calls = [f"{each[change].calls:,}" for each in counts]
        bytecodes = [f"{each[change].bytecodes:,}" for each in counts]
        print(f"| {change} | {' | '.join(calls + bytecodes)} |")


def counts_of_changes(ports: int) -> dict[str, Count]:
    """The counts by what changes of a port, on a host with so many; it is alone on its network."""
    agent = Agent(ports)
    new = max(NUMBERS) + 1

    def record_and_look(**changes: Any) -> None:
        agent.record(new, **changes)
        agent.look()

    def documents_and_look(hop_limit: int) -> None:
        agent.documents(network=new, hop_limit=hop_limit)
        agent.look()

    def changes() -> dict[str, Count]:
        return {
            "it is plugged": _count(lambda: agent.plug(new)),
            "it gets an ofport": _count(lambda: agent.number(new, new)),
            "its record is there": _count(record_and_look),
            "its options are there": _count(lambda: documents_and_look(0)),
            "its record changes": _count(lambda: record_and_look(revision=2)),
            "its network's options change": _count(lambda: documents_and_look(2)),
            "it gets another ofport": _count(lambda: agent.number(new, new + 1)),
            "the datapath is revalidated": _count(agent.revalidate),
            "it is unplugged": _count(lambda: agent.unplug(new)),
            "a look at the configuration": _count(agent.refresh),
            "nothing": _count(agent.look),
        }

    changes()  # what is computed once in a process
    agent.revalidate()
    return changes()


def _count(action: Callable[[], object]) -> Count:
    """Count what an action takes."""
    counts = dict.fromkeys(("call", "opcode", "line", "return", "exception"), 0)

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        frame.f_trace_opcodes = True
        counts[event] += 1
        return trace

    before = sys.gettrace()
    gc.disable()  # another library may have it call functions
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
        gc.enable()
    return Count(counts["call"], counts["opcode"])


def _uuid(kind: str, number: int = 0) -> str:
    return str(UUID(int=_KINDS.index(kind) << 64 | number))


_KINDS = ("Bridge", "Port", "Interface", "id", "instance", "network")


def _rows(table: str, numbers: Iterable[int]) -> list[Any]:
    return ["set", [["uuid", _uuid(table, each)] for each in numbers]]


def _modified(table: str, number: int, **columns: Any) -> dict[str, Any]:
    return {_uuid(table, number): {"modify": columns}}


def _inserted(numbers: Collection[int], **columns: Any) -> dict[str, Any]:
    """The Port and Interface rows of new ports, with some columns of Interface."""
    ports, interfaces = {}, {}
    for number in numbers:
        ids = [["iface-id", _uuid("id", number)], ["vm-uuid", _uuid("instance", number)]]
        name = f"tap{number}"
        row = {"name": name, "ofport": number, "external_ids": ["map", ids], **columns}
        interfaces[_uuid("Interface", number)] = {"insert": row}
        row = {"name": name, "interfaces": _rows("Interface", [number])}
        ports[_uuid("Port", number)] = {"insert": row}
    return {"Port": ports, "Interface": interfaces}


def _record(number: int, network: int | None = None, revision: int = 1) -> PortRecord:
    return PortRecord(
        port_id=_uuid("id", number),
        project_id=_PROJECT,
        device_id=_uuid("instance", number),
        device_owner="compute:nova",
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=("10.0.0.5",),
        network_id=_uuid("network", number if network is None else network),
        revision_number=revision,
    )


def _column(key: Any, most: int | str = 1, **more: Any) -> dict[str, Any]:
    return {"type": {"key": key, "min": 0, "max": most, **more}}


_MAP = _column("string", "unlimited", value="string")
_TYPES: dict[str, dict[str, Any]] = {
    "bridges": _column({"type": "uuid", "refTable": "Bridge"}, "unlimited"),
    "ports": _column({"type": "uuid", "refTable": "Port"}, "unlimited"),
    "interfaces": _column({"type": "uuid", "refTable": "Interface"}, "unlimited"),
    "name": {"type": "string"},
    "type": {"type": "string"},
    "datapath_id": _column("string"),
    "vlan_mode": _column("string"),
    "protocols": _column("string", "unlimited"),
    "flow_tables": _MAP,
    "external_ids": _MAP,
    "trunks": _column("integer", 4096),
    **{each: _column("integer") for each in ("tag", "ofport", "ofport_request", "mtu_request")},
}
_SCHEMA = {
    "name": "Open_vSwitch",
    "version": "8.0.0",
    "tables": {
        table: {"columns": {column: _TYPES[column] for column in columns}}
        for table, columns in ovsdb.COLUMNS.items()
    },
}
"""As far as it matters of vswitch.ovsschema."""


if __name__ == "__main__":
    main()
