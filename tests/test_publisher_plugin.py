"""What of the plugin takes no Neutron: its reconciliation's worker, on stand-ins of the modules.

The plugin in a real Neutron is the functional tests' business.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lab.rig.process import wait_for
from lab.stand_ins.neutron_port import make_port
from ovs_metadata.publisher import reconciliation
from ovs_metadata.publisher.ports import record_of
from ovs_metadata.store import open_store

PLUGIN = "ovs_metadata.publisher.plugin"


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


class CorePlugin:
    """Has one port, once its database can be read."""

    def __init__(self) -> None:
        self.failures = 1

    def get_ports(self, _context: object, **_query: object) -> list[dict[str, Any]]:
        if self.failures:
            self.failures -= 1
            raise PoolTimeout("QueuePool limit of size 5 overflow 10 reached")
        return [] if _query.get("marker") else [make_port(1)]


MODULES: dict[str, dict[str, object]] = {
    "neutron": {},
    "neutron.objects": {},
    "neutron.objects.trunk": {},
    "neutron_lib": {},
    "neutron_lib.context": {"get_admin_context": object},
    "neutron_lib.worker": {"BaseWorker": BaseWorker},
    "neutron_lib.exceptions": {
        "NeutronException": type("NeutronException", (Exception,), {}),
        "PortNotFound": type("PortNotFound", (Exception,), {}),
    },
    "neutron_lib.callbacks": {},
    "neutron_lib.callbacks.events": {},
    "neutron_lib.callbacks.registry": {},
    "neutron_lib.callbacks.resources": {},
    "neutron_lib.plugins": {},
    "neutron_lib.plugins.directory": {},
    "neutron_lib.services": {},
    "neutron_lib.services.base": {"ServicePluginBase": object},
    "oslo_db": {},
    "oslo_db.exception": {"DBError": type("DBError", (Exception,), {})},
    "sqlalchemy": {},
    "sqlalchemy.exc": {"SQLAlchemyError": SQLAlchemyError},
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
    sys.modules.pop(PLUGIN, None)
    yield importlib.import_module(PLUGIN)
    sys.modules.pop(PLUGIN)


def test_a_pool_without_a_free_connection_does_not_end_the_reconciliation(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "RETRY_DELAY", 0.01)
    url = f"directory:{tmp_path / 'store'}"
    worker = plugin.ReconciliationWorker(lambda: open_store(url), 3600)
    worker.start()
    try:
        with contextlib.closing(open_store(url)) as store:
            wait_for(lambda: list(store.port_ids()), "the record, after the failure")
            assert store.get(make_port(1)["id"]) == record_of(make_port(1))
    finally:
        worker.stop()
        worker.wait()
