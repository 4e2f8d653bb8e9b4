"""The metadata port in OVSDB: what is written of it, into rows that are played."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ovs_metadata.agent.network.metadata_port import (
    PlumbingError,
    ensure_metadata_port,
    remove_metadata_port,
)
from ovs_metadata.host.address import METADATA_PORT, METADATA_PORT_MTU
from ovs_metadata.host.ovsdb import (
    ISOLATED_VLAN,
    METADATA_PORT_OWNER,
    Bridge,
    MetadataPort,
    Ovsdb,
)

RIGHT = MetadataPort(1, ours=True, isolated=True, mtu_request=METADATA_PORT_MTU)
OURS = dict([METADATA_PORT_OWNER])


class Row(SimpleNamespace):
    """A row of OVSDB."""

    def addvalue(self, column: str, value: object) -> None:
        getattr(self, column).append(value)

    def delvalue(self, column: str, value: object) -> None:
        getattr(self, column).remove(value)


class Database:
    """Carries out what is to be written of a bridge."""

    def __init__(self, *ports: Row, bridge: bool = True) -> None:
        self.bridge = Row(ports=list(ports)) if bridge else None
        self.transactions = 0

    def transact(self, write: Callable[[Any, Any, Any], None]) -> None:
        self.transactions += 1
        tables = {name: name for name in ("Interface", "Port")}
        write(SimpleNamespace(insert=lambda _table: Row()), self.bridge, tables)

    @property
    def ovsdb(self) -> Ovsdb:
        return cast("Ovsdb", self)

    def ports(self) -> list[Row]:
        assert self.bridge
        return list(self.bridge.ports)


def port(name: str = METADATA_PORT, **external_ids: str) -> Row:
    return Row(name=name, interfaces=[Row(name=name)], external_ids=external_ids)


def bridge(metadata_port: MetadataPort | None) -> Bridge:
    return Bridge("br-int", metadata_port=metadata_port)


def assert_isolated(row: Row) -> None:
    """Nothing gets to the port or from it by NORMAL, and segments fit what guests' paths carry."""
    assert (row.vlan_mode, row.trunks, row.tag) == (["trunk"], [ISOLATED_VLAN], [])
    assert row.interfaces[0].mtu_request == [METADATA_PORT_MTU]


def test_a_port_that_is_missing_is_added_as_ours_and_isolated() -> None:
    database = Database(port("tap1"))
    ensure_metadata_port(database.ovsdb, bridge(None))
    other, added = database.ports()
    assert other.name == "tap1"
    assert (added.name, added.external_ids) == (METADATA_PORT, OURS)
    assert (added.interfaces[0].name, added.interfaces[0].type) == (METADATA_PORT, "internal")
    assert_isolated(added)


@pytest.mark.parametrize(
    "there",
    [replace(RIGHT, isolated=False), replace(RIGHT, mtu_request=None)],
    ids=["open", "of another MTU"],
)
def test_our_port_is_corrected(there: MetadataPort) -> None:
    database = Database(port(**OURS))
    ensure_metadata_port(database.ovsdb, bridge(there))
    (corrected,) = database.ports()
    assert_isolated(corrected)


def test_a_port_that_is_as_it_should_be_is_not_written() -> None:
    database = Database(port(**OURS))
    ensure_metadata_port(database.ovsdb, bridge(RIGHT))
    assert database.transactions == 0


def test_a_port_of_another_program_stays() -> None:
    database = Database(port())
    with pytest.raises(PlumbingError, match="bridge br-int has a port named metadata"):
        ensure_metadata_port(database.ovsdb, bridge(replace(RIGHT, ours=False)))
    remove_metadata_port(database.ovsdb)
    assert len(database.ports()) == 1


def test_ours_alone_is_removed() -> None:
    database = Database(port("tap1"), port(**OURS), port("other", **OURS))
    remove_metadata_port(database.ovsdb)
    assert [each.name for each in database.ports()] == ["tap1", "other"]


def test_on_a_bridge_that_has_gone_nothing_is_done() -> None:
    database = Database(bridge=False)
    ensure_metadata_port(database.ovsdb, bridge(None))
    remove_metadata_port(database.ovsdb)
    assert database.transactions == 2
