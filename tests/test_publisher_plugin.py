"""What of the plugin takes no Neutron: its callbacks and its worker, on stand-ins of the modules.

The plugin in a real Neutron is the functional tests' business.
"""

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from lab.rig.process import wait_for
from lab.stand_ins.neutron_port import make_port
from ovs_metadata.publisher import repeated
from ovs_metadata.publisher.networks import NetworkChange, options_of
from ovs_metadata.publisher.ports import Change, record_of
from ovs_metadata.store import open_store
from ovs_metadata.store.layout import AGENTS, agent_path
from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.record import MAX_REVISION
from ovs_metadata.store.store import Store

PLUGIN = "ovs_metadata.publisher.plugin"
TAGS = "ovs_metadata.publisher.tags"
"""They import Neutron."""


class BaseWorker:
    """As far as the worker uses Neutron's."""

    def __init__(self, worker_process_count: int, desc: str) -> None:
        self.worker_process_count = worker_process_count
        self.desc = desc

    def start(self, desc: str) -> None:
        assert desc == self.desc


class SQLAlchemyError(Exception):
    pass


class PoolTimeout(SQLAlchemyError):
    pass


TAGGED: dict[str, Any] = {
    "id": "11111111-0000-4000-8000-000000000001",
    "project_id": "project-1",
    "revision_number": 7,
    "tags": ["blue", "metadata:hop-limit=1"],
    "standard_attr_id": 5,
}


class CorePlugin:
    """Has one port and one network, once its database can be read."""

    def __init__(self) -> None:
        self.failures = 1
        self.known = [make_port(1)]
        self.networks = [TAGGED]
        self.agents: dict[str, dict[str, Any]] = {}

    def get_agents(self, _context: object, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        if self.failures:
            self.failures -= 1
            raise PoolTimeout("QueuePool limit of size 5 overflow 10 reached")
        return [
            each for each in self.agents.values() if each["agent_type"] in filters["agent_type"]
        ]

    def create_or_update_agent(self, _context: object, state: dict[str, Any]) -> None:
        self.agents[state["host"]] = {
            **state,
            "heartbeat_timestamp": datetime.now(timezone.utc).replace(tzinfo=None),
        }

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise PoolTimeout("QueuePool limit of size 5 overflow 10 reached")

    def get_ports(self, _context: object, **query: Any) -> list[dict[str, Any]]:
        self._fail()
        if "filters" in query:
            ((name, wanted),) = query["filters"].items()
            return [port for port in self.known if port.get(name) in wanted]
        return [] if query.get("marker") else self.known

    def get_networks(self, _context: object, **query: Any) -> list[dict[str, Any]]:
        self._fail()
        if "filters" not in query:
            return [] if query["marker"] else self.networks
        ((name, wanted),) = query["filters"].items()
        return [each for each in self.networks if each[name] in wanted]


class TrunkObject:
    """One of Neutron's objects for trunks, found by one of its values."""

    there: ClassVar[list[SimpleNamespace]]

    @classmethod
    def get_objects(cls, _context: object, **query: list[str]) -> list[SimpleNamespace]:
        ((name, wanted),) = query.items()
        return [each for each in cls.there if getattr(each, name) in wanted]


class SubPort(TrunkObject):
    there: ClassVar = [SimpleNamespace(port_id=make_port(2)["id"], trunk_id="trunk-1")]


class Trunk(TrunkObject):
    there: ClassVar = [SimpleNamespace(id="trunk-1", port_id=make_port(1)["id"])]


MODULES: dict[str, dict[str, object]] = {
    "neutron": {},
    "neutron.db": {},
    "neutron.db.models": {},
    "neutron.db.models.tag": {"Tag": "Tag"},
    "neutron.objects": {},
    "neutron.objects.trunk": {"SubPort": SubPort, "Trunk": Trunk},
    "neutron_lib": {},
    "neutron_lib.context": {"get_admin_context": object},
    "neutron_lib.worker": {"BaseWorker": BaseWorker},
    "neutron_lib.exceptions": {
        "NeutronException": type("NeutronException", (Exception,), {}),
        "PortNotFound": type("PortNotFound", (Exception,), {}),
        "NetworkNotFound": type("NetworkNotFound", (Exception,), {}),
    },
    "neutron_lib.callbacks": {},
    "neutron_lib.callbacks.events": {"AFTER_CREATE": "after_create"},
    "neutron_lib.callbacks.priority_group": {"PRIORITY_DEFAULT": 5},
    "neutron_lib.callbacks.registry": {},
    "neutron_lib.callbacks.resources": {},
    "neutron_lib.plugins": {},
    "neutron_lib.plugins.directory": {},
    "neutron_lib.services": {},
    "neutron_lib.services.base": {"ServicePluginBase": object},
    "oslo_db": {},
    "oslo_db.exception": {"DBError": type("DBError", (Exception,), {})},
    "sqlalchemy": {},
    "sqlalchemy.event": {},
    "sqlalchemy.exc": {"SQLAlchemyError": SQLAlchemyError},
    "sqlalchemy.orm": {"object_session": lambda written: written.session},
}


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The plugin's module, imported among stand-ins."""
    for name, attributes in MODULES.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            vars(sys.modules[parent])[child] = module
    core = CorePlugin()
    vars(sys.modules["neutron_lib.plugins.directory"])["get_plugin"] = lambda: core
    for each in (PLUGIN, TAGS):
        sys.modules.pop(each, None)
    yield importlib.import_module(PLUGIN)
    for each in (PLUGIN, TAGS):
        sys.modules.pop(each)


class Started:
    """What a worker has started, which ends with the `with` block."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker

    def __enter__(self) -> None:
        self.worker.start()

    def __exit__(self, *_: object) -> None:
        self.worker.stop()
        self.worker.wait()


@pytest.fixture
def workers(plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The plugin's workers, by what they do; the store is a directory."""
    monkeypatch.setattr(repeated, "RETRY_DELAY", 0.01)
    url = f"directory:{tmp_path / 'store'}"
    made = plugin.workers(lambda: open_store(url), 3600, 3600)
    return {each.desc.removeprefix("ovs_metadata "): each for each in made}


def test_a_core_plugin_without_agents_shows_none(
    workers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    vars(sys.modules["neutron_lib.plugins.directory"])["get_plugin"] = object
    with caplog.at_level(logging.INFO), Started(workers["agents"]):
        assert "the core plugin has no list of agents" in caplog.text


def test_an_interval_of_0_leaves_the_reconciliation_out(plugin: Any) -> None:
    made = plugin.workers(lambda: None, 0, 75)
    assert [each.desc for each in made] == ["ovs_metadata agents"]


@pytest.fixture
def store(workers: dict[str, Any], tmp_path: Path) -> Iterator[Store]:
    assert workers
    with contextlib.closing(open_store(f"directory:{tmp_path / 'store'}")) as opened:
        yield opened


def test_a_pool_without_a_free_connection_does_not_end_the_reconciliation(
    workers: dict[str, Any], store: Store
) -> None:
    with Started(workers["reconciliation"]):
        wait_for(lambda: list(store.port_ids()), "the record, after the failure")
        assert store.get(make_port(1)["id"]) == record_of(make_port(1))
        wait_for(lambda: list(store.networks()), "the network's options")
        assert store.network(TAGGED["id"]) == options_of(TAGGED)


def test_a_live_agent_is_reported_as_neutrons_own_are(
    plugin: Any, workers: dict[str, Any], store: Store
) -> None:
    core = plugin.directory.get_plugin()
    announcement = store.announce(agent_path("hypervisor-1"), b"{}")
    wait_for(lambda: store.announced(AGENTS), "the announcement")
    with Started(workers["agents"]):
        wait_for(lambda: core.agents, "the agent in Neutron")
    announcement.close()
    assert core.agents["hypervisor-1"]["agent_type"] == "OVS metadata agent"


CREATED, UPDATED = "after_create", "after_update"
INSTANCE, SUBPORT, ROUTER = (
    make_port(1),
    make_port(2, device_owner="trunk:subport", device_id=""),
    make_port(3, device_owner="network:router_interface"),
)


@pytest.fixture
def core(plugin: Any) -> CorePlugin:
    """The core plugin, whose database has all of these ports."""
    core: CorePlugin = plugin.directory.get_plugin()
    core.failures = 0
    core.known = [INSTANCE, SUBPORT, ROUTER]
    return core


@pytest.fixture
def published(plugin: Any) -> list[Change]:
    """What the plugin, `plugin.ours`, hands to its publisher."""
    plugin.published = []
    plugin.ours = plugin.OvsMetadataPlugin.__new__(plugin.OvsMetadataPlugin)
    plugin.ours._publisher = SimpleNamespace(submit=plugin.published.append)
    return plugin.published  # type: ignore[no-any-return]


def payload(*states: Any, **metadata: Any) -> SimpleNamespace:
    return SimpleNamespace(states=states, latest_state=states[-1] if states else None, **metadata)


def in_trunk() -> Change:
    """What is published of the sub-port: its device is the parent of its trunk."""
    return Change(SUBPORT["id"], 3, record_of({**SUBPORT, "device_id": INSTANCE["id"]}))


@pytest.mark.usefixtures("core")
def test_a_port_that_is_or_was_an_instances_is_published(
    plugin: Any, published: list[Change]
) -> None:
    detached = {**INSTANCE, "device_owner": "", "device_id": "", "revision_number": 4}
    plugin.ours.port_written("port", CREATED, None, payload(INSTANCE))
    plugin.ours.port_written("port", UPDATED, None, payload(INSTANCE, detached))
    assert published == [
        Change(INSTANCE["id"], 3, record_of(INSTANCE)),
        Change(INSTANCE["id"], 4, None),
    ]


@pytest.mark.usefixtures("core")
def test_a_port_that_never_was_an_instances_is_not_published(
    plugin: Any, published: list[Change]
) -> None:
    plugin.ours.port_written("port", CREATED, None, payload(ROUTER))
    plugin.ours.port_written("port", UPDATED, None, payload(ROUTER, ROUTER))
    assert published == []


@pytest.mark.usefixtures("core")
def test_a_creation_with_two_states_has_no_port_before_it(
    plugin: Any, published: list[Change]
) -> None:
    plugin.ours.port_written("port", CREATED, None, payload(INSTANCE, ROUTER))
    assert published == []


@pytest.mark.usefixtures("core")
def test_a_deleted_port_has_no_record(plugin: Any, published: list[Change]) -> None:
    plugin.ours.port_deleted("port", "after_delete", None, payload(INSTANCE))
    (change,) = published
    assert (change.port_id, change.record) == (INSTANCE["id"], None)


ENTRY = SimpleNamespace(port_id=SUBPORT["id"])
TRUNK = SimpleNamespace(port_id=INSTANCE["id"], sub_ports=[ENTRY])


@pytest.mark.usefixtures("core")
def test_a_subport_is_published_with_the_parent_of_its_trunk(
    plugin: Any, published: list[Change]
) -> None:
    plugin.ours.port_written("port", UPDATED, None, payload(SUBPORT, SUBPORT))
    assert published == [in_trunk()]


@pytest.mark.parametrize(
    ("callback", "about"),
    [
        ("subports_changed", payload(TRUNK, metadata={"subports": [ENTRY]})),
        ("trunk_changed", payload(TRUNK)),
    ],
)
def test_a_change_of_a_trunk_publishes_its_parent_and_its_subports(
    plugin: Any,
    core: CorePlugin,
    published: list[Change],
    callback: str,
    about: SimpleNamespace,
) -> None:
    details = {"sub_ports": [{"segmentation_id": 42, "port_id": SUBPORT["id"]}]}
    parent = {**INSTANCE, "trunk_details": details}
    core.known = [parent, SUBPORT]
    getattr(plugin.ours, callback)("resource", UPDATED, None, about)
    assert published == [Change(INSTANCE["id"], 3, record_of(parent)), in_trunk()]
    assert record_of(parent).sub_ports == ((42, SUBPORT["id"]),)


@pytest.mark.usefixtures("core")
def test_a_subport_without_a_trunk_has_no_record(
    plugin: Any, published: list[Change], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trunk, "there", [])
    plugin.ours.port_written("port", UPDATED, None, payload(SUBPORT, SUBPORT))
    assert [change.record for change in published] == [None]


def test_a_trunk_without_subports_asks_nothing(
    plugin: Any, core: CorePlugin, published: list[Change]
) -> None:
    core.failures = 1
    plugin.ours.trunk_changed(
        "trunk", CREATED, None, payload(SimpleNamespace(port_id=INSTANCE["id"], sub_ports=[]))
    )
    assert (published, core.failures) == ([], 1)


def test_a_database_that_cannot_be_read_fails_no_call(
    plugin: Any, core: CorePlugin, published: list[Change], caplog: pytest.LogCaptureFixture
) -> None:
    core.failures = 1
    plugin.ours.port_written("port", UPDATED, None, payload(SUBPORT, SUBPORT))
    assert published == []
    assert "cannot publish ports before the next reconciliation: QueuePool" in caplog.text


@pytest.mark.usefixtures("core")
def test_changed_tags_are_published_for_the_resource_that_has_them(
    plugin: Any, published: list[Any]
) -> None:
    plugin.ours.tags_changed({5})
    assert published == [NetworkChange(options_of(TAGGED))]
    published.clear()
    plugin.ours.tags_changed({6})
    assert published == []


@pytest.mark.usefixtures("core")
def test_a_deleted_network_has_no_options(plugin: Any, published: list[Any]) -> None:
    plugin.ours.network_deleted("network", "after_delete", None, payload({**TAGGED, "tags": []}))
    assert published == []
    plugin.ours.network_deleted("network", "after_delete", None, payload(TAGGED))
    (change,) = published
    assert change.network == NetworkOptions(TAGGED["id"], "", (), MAX_REVISION)


def test_networks_that_cannot_be_read_fail_no_call(
    plugin: Any, core: CorePlugin, published: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    core.networks = [{**TAGGED, "revision_number": None}]
    plugin.ours.tags_changed({5})
    assert "cannot publish the options of a network: Neutron's network " in caplog.text
    core.failures = 2
    plugin.ours.tags_changed({5})
    assert "cannot publish networks before the next reconciliation: QueuePool" in caplog.text
    assert published == []


class Session:
    """Of SQLAlchemy, as far as the watch of tags uses one."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = {}
        self.after_commit: list[Any] = []
        self.nested = False

    def in_nested_transaction(self) -> bool:
        return self.nested

    def commit(self) -> None:
        for each in self.after_commit:
            each(self)


def test_tags_are_published_after_the_commit_of_their_transaction(plugin: Any) -> None:
    listening: dict[str, Any] = {}

    def listen(target: Any, name: str, function: Any) -> None:
        if isinstance(target, Session):
            target.after_commit.append(function)
        else:
            listening[name] = function

    vars(sys.modules["sqlalchemy.event"])["listen"] = listen
    changed: list[set[int]] = []
    plugin.TagWatch(changed.append)
    assert set(listening) == {"after_insert", "after_delete"}
    session = Session()

    def write(name: str, attribute: int, tag: str = "metadata:hosts=literal") -> None:
        written = SimpleNamespace(session=session, standard_attr_id=attribute, tag=tag)
        listening[name]("mapper", "connection", written)

    write("after_insert", 1, "blue")
    assert session.after_commit == []
    write("after_insert", 1)
    write("after_delete", 2)
    session.nested = True
    session.commit()
    assert changed == []
    session.nested = False
    session.commit()
    assert changed == [{1, 2}]
    session.commit()
    write("after_delete", 3)
    session.commit()
    assert changed == [{1, 2}, {3}]
