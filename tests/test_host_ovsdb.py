"""The replica of OVSDB: what it remembers of rows that are gone."""

from types import SimpleNamespace
from uuid import uuid4

from ovs.db import types
from ovs.db.data import Atom
from ovs.db.idl import ROW_CREATE, ROW_DELETE, SchemaHelper

from ovs_metadata.host.ovsdb import _Replica
from ovs_metadata.host.ports import Interface

SCHEMA = {
    "name": "Open_vSwitch",
    "version": "0.0.1",
    "tables": {
        "Bridge": {"columns": {"name": {"type": "string"}}},
        "Port": {"columns": {"name": {"type": "string"}}},
    },
}


def _row(table: str, **columns: object) -> SimpleNamespace:
    return SimpleNamespace(uuid=uuid4(), _table=SimpleNamespace(name=table), **columns)


def _has(bridge: SimpleNamespace, *ports: SimpleNamespace) -> None:
    """As python-ovs keeps the column `ports`."""
    values = {Atom(types.UuidType, port.uuid): None for port in ports}
    bridge._data = {"ports": SimpleNamespace(values=values)}


def test_interfaces_that_are_gone_are_forgotten() -> None:
    helper = SchemaHelper(schema_json=SCHEMA)
    helper.register_all()
    replica = _Replica("unix:/nonexistent/db.sock", helper)
    interface = _row("Interface", name="tap1", ofport=[1], external_ids={}, ofport_request=[])
    port = _row("Port", name="tap1", tag=[], interfaces=[interface])
    bridge = _row("Bridge")
    _has(bridge, port)
    replica.tables["Port"].rows[port.uuid] = port
    for row in (interface, port, bridge):
        replica.notify(ROW_CREATE, row)
    assert replica.interfaces_of(bridge) == [Interface("tap1", 1, None, None, None)]
    _has(bridge)
    for row in (port, interface):
        replica.notify(ROW_DELETE, row)
    replica.notify("update", bridge)
    assert replica.interfaces_of(bridge) == []
    assert not replica._port_of
    replica.close()
