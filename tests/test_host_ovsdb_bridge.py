"""The bridge that OVSDB shows, changes of it, and writes; a thread of the test plays the server."""

import contextlib
import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from played_ovsdb import PlayedOvsdb

from lab.rig.process import wait_for
from ovs_metadata.host import ovsdb
from ovs_metadata.host.address import METADATA_PORT
from ovs_metadata.host.config import load
from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.ovsdb import (
    ISOLATED_VLAN,
    METADATA_PORT_OWNER,
    Bridge,
    MetadataPort,
    Ovsdb,
    OvsdbRefused,
    OvsdbUnreachable,
)
from ovs_metadata.host.port_watcher import PortWatcher
from ovs_metadata.host.southbound.location import Location, TlsFiles, locate
from ovs_metadata.store.errors import StoreUnavailable
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.record import MalformedRecord
from ovs_metadata.store.store import Store

_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}


def _optional(key: str) -> dict[str, Any]:
    return {"type": {"key": key, "min": 0, "max": 1}}


def _rows(table: str) -> dict[str, Any]:
    key = {"type": "uuid", "refTable": table}
    return {"type": {"key": key, "min": 0, "max": "unlimited"}}


TABLES: dict[str, dict[str, Any]] = {
    "Open_vSwitch": {"bridges": _rows("Bridge"), "external_ids": _MAP},
    "Bridge": {
        "name": {"type": "string"},
        "ports": _rows("Port"),
        "datapath_id": _optional("string"),
        "protocols": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
        "flow_tables": {
            "type": {
                "key": "integer",
                "value": {"type": "uuid", "refTable": "Flow_Table"},
                "min": 0,
                "max": "unlimited",
            }
        },
    },
    "Port": {
        "name": {"type": "string"},
        "interfaces": _rows("Interface"),
        "tag": _optional("integer"),
        "trunks": {"type": {"key": "integer", "min": 0, "max": 4096}},
        "vlan_mode": _optional("string"),
        "external_ids": _MAP,
    },
    "Interface": {
        "name": {"type": "string"},
        "ofport": _optional("integer"),
        "ofport_request": _optional("integer"),
        "external_ids": _MAP,
        "type": {"type": "string"},
        "mtu_request": _optional("integer"),
    },
    "Flow_Table": {"name": _optional("string")},
}

NONE = ["set", []]


class OpenVSwitch(PlayedOvsdb):
    """A database with one bridge, br-int."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "Open_vSwitch", TABLES)
        self.ports: list[str] = []
        named, unnamed = self.add("Flow_Table", name="ours"), self.add("Flow_Table", name=NONE)
        self.bridge = self.add_bridge(
            "br-int",
            datapath_id="0000000000000001",
            protocols=["set", ["OpenFlow13", "OpenFlow15"]],
            flow_tables=["map", [[7, ["uuid", named]], [8, ["uuid", unnamed]]]],
        )
        self.add_bridge("br-ex")

    def add_bridge(self, name: str, **columns: Any) -> str:
        """Add a bridge without ports."""
        defaults = {"datapath_id": NONE, "protocols": NONE, "flow_tables": ["map", []]}
        return self.add("Bridge", **{"name": name, "ports": NONE, **defaults, **columns})

    def plug(self, name: str, ofport: Any, **columns: Any) -> tuple[str, str]:
        """Add a port to the bridge; returns the UUIDs of its rows, of Port and Interface."""
        of_interface = {
            "name": name,
            "ofport": ofport,
            "ofport_request": NONE,
            "type": "",
            "external_ids": ["map", []],
            "mtu_request": NONE,
        }
        of_port = {
            "name": name,
            "tag": NONE,
            "trunks": NONE,
            "vlan_mode": NONE,
            "external_ids": ["map", []],
        }
        with self.transaction():
            interface = self.add("Interface", **{**of_interface, **columns.pop("interface", {})})
            port = self.add("Port", interfaces=["uuid", interface], **{**of_port, **columns})
            self.ports.append(port)
            self._show_ports()
        return port, interface

    def unplug(self, port: str, interface: str) -> None:
        """Remove a port of the bridge."""
        with self.transaction():
            self.ports.remove(port)
            self._show_ports()
            self.remove("Port", port)
            self.remove("Interface", interface)

    def _show_ports(self) -> None:
        ports = ["set", [["uuid", each] for each in self.ports]]
        self.change("Bridge", self.bridge, ports=ports)


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[OpenVSwitch]:
    with OpenVSwitch(tmp_path) as switch:
        yield switch


class Followed:
    """A connection to OVSDB, and the bridges that it reported."""

    def __init__(self, switch: OpenVSwitch, name: str = "br-int", timeout: float = 10.0) -> None:
        self.seen: list[Bridge | None] = []
        self.ovsdb = Ovsdb(switch.remote, name, self.seen.append, timeout)

    def close(self) -> None:
        self.ovsdb.close()

    def bridge(self) -> Bridge:
        """The confirmed bridge."""
        confirmed = threading.Event()
        self.ovsdb.confirm(confirmed.set)
        assert confirmed.wait(10)
        bridge = self.seen[-1]
        assert bridge is not None
        assert bridge == self.ovsdb.bridge
        return bridge


@pytest.fixture
def followed(switch: OpenVSwitch) -> Iterator[Followed]:
    with contextlib.closing(Followed(switch)) as followed:
        yield followed


def test_the_bridge_is_there_when_the_connection_is(switch: OpenVSwitch) -> None:
    ids = [["iface-id", "port"], ["vm-uuid", "instance"], ["attached-mac", "mac"]]
    switch.plug("tap1", 5, tag=3, interface={"external_ids": ["map", ids], "ofport_request": 6})
    with contextlib.closing(Followed(switch)) as followed:
        (bridge,) = followed.seen
    assert bridge is not None
    assert bridge.interfaces == by_name([Interface("tap1", 5, "port", "instance", 3, 6, "mac")])
    assert (bridge.name, bridge.datapath_id) == ("br-int", "0000000000000001")
    assert bridge.protocols == {"OpenFlow13", "OpenFlow15"}
    assert bridge.table_names == ((7, "ours"),)
    assert str(bridge.row) == switch.bridge
    assert bridge.metadata_port is None


def test_changes_are_reported_before_they_are_confirmed(
    switch: OpenVSwitch, followed: Followed
) -> None:
    assert followed.bridge().interfaces == {}
    port, interface = switch.plug("tap1", NONE)
    assert followed.bridge().interfaces == by_name([Interface("tap1", None)])
    switch.change("Interface", interface, ofport=5)
    assert followed.bridge().interfaces == by_name([Interface("tap1", 5)])
    switch.change("Interface", interface, external_ids=["map", [["iface-id", "port"]]])
    assert followed.bridge().interfaces == by_name([Interface("tap1", 5, "port")])
    switch.change("Port", port, tag=3)
    assert followed.bridge().interfaces == by_name([Interface("tap1", 5, "port", None, 3)])
    switch.unplug(port, interface)
    assert followed.bridge().interfaces == {}


def test_the_numbers_that_ports_have_left(switch: OpenVSwitch, followed: Followed) -> None:
    assert followed.ovsdb.take_left() is None  # of the time before, nothing is known
    one, two = switch.plug("tap1", 5), switch.plug("tap2", 6)
    followed.bridge()
    assert followed.ovsdb.take_left() == frozenset()
    switch.change("Interface", one[1], ofport=7)
    followed.bridge()
    switch.unplug(*two)
    followed.bridge()
    assert followed.ovsdb.take_left() == frozenset({5, 6})
    assert followed.ovsdb.take_left() == frozenset()


def test_a_number_that_was_left_is_reported_although_the_bridge_is_the_same(
    switch: OpenVSwitch, followed: Followed
) -> None:
    """An interface goes and returns at once: its number may have been another's in between."""
    port, interface = switch.plug("tap1", 5)
    before = followed.bridge()
    reports = len(followed.seen)
    followed.ovsdb.take_left()
    with switch.transaction():
        again = switch.add("Interface", **switch.rows["Interface"][interface])
        switch.change("Port", port, interfaces=["uuid", again])
        switch.remove("Interface", interface)
    assert followed.bridge() == before
    assert followed.ovsdb.take_left() == frozenset({5})
    assert len(followed.seen) > reports
    assert list(followed.ovsdb.idl._ports._port_of) == [UUID(again)]
    # Of another bridge's row nothing is reported.
    reports = len(followed.seen)
    switch.add_bridge("br-new")
    followed.bridge()
    assert len(followed.seen) == reports


def test_a_reconnection_shows_what_has_changed(switch: OpenVSwitch, followed: Followed) -> None:
    one = switch.plug("tap1", 5)
    switch.plug("tap2", 6)
    before = followed.bridge()
    followed.ovsdb.take_left()
    assert len(before.interfaces) == 2
    switch.stop()
    switch.unplug(*one)
    switch.serve()
    assert followed.bridge().interfaces == by_name([Interface("tap2", 6)])
    assert followed.ovsdb.take_left() is None


def test_a_reconnection_is_reported_although_the_bridge_is_the_same(
    switch: OpenVSwitch, followed: Followed
) -> None:
    """Numbers may have been another's while there was no connection."""
    before = followed.bridge()
    reports = len(followed.seen)
    followed.ovsdb.take_left()
    switch.hang_up()
    wait_for(lambda: len(followed.seen) > reports, "the report")
    assert followed.bridge() == before
    assert followed.ovsdb.take_left() is None


def test_a_confirmation_outlives_a_connection(switch: OpenVSwitch, followed: Followed) -> None:
    """A lost echo confirms nothing: after the reconnection there is another."""
    followed.bridge()

    def lose() -> None:
        switch.before_echo = lambda: None
        switch.plug("tap1", 5)
        switch.hang_up()

    switch.before_echo = lose
    assert followed.bridge().interfaces == by_name([Interface("tap1", 5)])
    assert len(switch.asked("monitor_cond_since")) == 2


def test_a_bridge_that_is_not_there_yet(switch: OpenVSwitch) -> None:
    with contextlib.closing(Followed(switch, "br-new")) as followed:
        assert followed.seen == [None]
        row = switch.add_bridge("br-new")
        assert followed.bridge() == Bridge("br-new", row=followed.bridge().row)
        switch.remove("Bridge", row)
        wait_for(lambda: followed.seen[-1] is None, "the end of the bridge")


OURS = ["map", [list(METADATA_PORT_OWNER)]]


@pytest.mark.parametrize(
    ("port", "interface", "expected"),
    [
        ({}, {}, MetadataPort(9, ours=True, isolated=True, mtu_request=1400)),
        ({}, {"ofport": -1}, MetadataPort(None, ours=True, isolated=True, mtu_request=1400)),
        ({}, {"ofport": NONE}, MetadataPort(None, ours=True, isolated=True, mtu_request=1400)),
        ({}, {"mtu_request": NONE}, MetadataPort(9, ours=True, isolated=True, mtu_request=None)),
        ({}, {"type": "tap"}, MetadataPort(9, ours=False, isolated=True, mtu_request=1400)),
        (
            {"external_ids": ["map", []]},
            {},
            MetadataPort(9, ours=False, isolated=True, mtu_request=1400),
        ),
        ({"trunks": NONE}, {}, MetadataPort(9, ours=True, isolated=False, mtu_request=1400)),
        ({"vlan_mode": "access"}, {}, MetadataPort(9, ours=True, isolated=False, mtu_request=1400)),
        ({"tag": 1}, {}, MetadataPort(9, ours=True, isolated=False, mtu_request=1400)),
    ],
)
def test_the_metadata_port(
    switch: OpenVSwitch, port: dict[str, Any], interface: dict[str, Any], expected: MetadataPort
) -> None:
    isolated = {"trunks": ["set", [ISOLATED_VLAN]], "vlan_mode": "trunk", "external_ids": OURS}
    of_interface = {"type": "internal", "mtu_request": 1400, **interface}
    switch.plug(METADATA_PORT, 9, **{**isolated, **port, "interface": of_interface})
    with contextlib.closing(Followed(switch)) as followed:
        (bridge,) = followed.seen
    assert bridge is not None
    assert bridge.metadata_port == expected
    assert bridge.interfaces == {}


def test_the_metadata_port_comes_changes_and_goes(switch: OpenVSwitch, followed: Followed) -> None:
    assert followed.bridge().metadata_port is None
    port, interface = switch.plug(METADATA_PORT, 9, external_ids=OURS)
    switch.plug("tap1", 5)
    assert followed.bridge().metadata_port == MetadataPort(
        9, ours=False, isolated=False, mtu_request=None
    )
    switch.change("Interface", interface, ofport=10)
    assert followed.bridge().metadata_port == MetadataPort(
        10, ours=False, isolated=False, mtu_request=None
    )
    switch.unplug(port, interface)
    assert followed.bridge().metadata_port is None
    assert followed.bridge().interfaces == by_name([Interface("tap1", 5)])


def test_a_write_is_one_transaction(switch: OpenVSwitch, followed: Followed) -> None:
    def write(_transaction: Any, bridge: Any, tables: Any) -> None:
        bridge.datapath_id = "0000000000000002"
        assert {row.name for row in tables["Bridge"].rows.values()} == {"br-int", "br-ex"}

    followed.ovsdb.transact(write)
    ((_name, *operations),) = switch.asked("transact")
    (update,) = [each for each in operations if each["op"] == "update"]
    assert update["where"] == [["_uuid", "==", ["uuid", switch.bridge]]]
    assert update["row"] == {"datapath_id": "0000000000000002"}
    # The server has not taken it: the bridge is as it was.
    assert followed.bridge().datapath_id == "0000000000000001"


def test_a_port_that_ovsdb_refuses_is_not_there(switch: OpenVSwitch, followed: Followed) -> None:
    switch.plug("tap1", 5)
    before = followed.bridge()

    def write(transaction: Any, bridge: Any, tables: Any) -> None:
        interface = transaction.insert(tables["Interface"])
        interface.name = METADATA_PORT
        port = transaction.insert(tables["Port"])
        port.name, port.interfaces = METADATA_PORT, [interface]
        bridge.addvalue("ports", port)

    switch.answer = lambda _: [{"error": "constraint violation", "details": "no such port"}]
    with pytest.raises(OvsdbRefused, match="constraint violation"):
        followed.ovsdb.transact(write)
    assert followed.bridge() == before


def test_a_change_that_ovsdb_does_not_take_in_time_is_refused(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(*_arguments: Any, **_options: Any) -> None:
        raise queue.Full

    with monkeypatch.context() as patched:
        patched.setattr(followed.ovsdb._connection.txns, "put", put)
        with pytest.raises(OvsdbRefused, match="OVSDB refused a change"):
            followed.ovsdb.transact(lambda *_: None)


def test_requests_for_a_confirmation_do_not_block(followed: Followed) -> None:
    """One waits in the queue to the thread; the others need no place there."""
    confirmed = [threading.Event() for _ in range(4)]
    with followed.ovsdb._connection.lock:  # the thread does nothing meanwhile
        for each in confirmed:
            followed.ovsdb.confirm(each.set)
    assert all(each.wait(10) for each in confirmed)


def test_close_does_not_wait_for_an_ovsdb_that_does_not_answer(
    switch: OpenVSwitch, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ovsdb, "CLOSE_TIMEOUT", 0.01)
    asked, may_answer = threading.Event(), threading.Event()

    def answer(operations: list[Any]) -> list[Any]:
        asked.set()
        assert may_answer.wait(60)
        switch.plug("tap1", 5)
        return [{} for _ in operations]

    def write(_transaction: Any, bridge: Any, _tables: Any) -> None:
        bridge.datapath_id = "0000000000000002"

    switch.answer = answer
    writing = threading.Thread(target=followed.ovsdb.transact, args=[write])
    closing = threading.Thread(target=followed.close)
    reports = len(followed.seen)
    thread = followed.ovsdb._connection.thread
    try:
        writing.start()
        assert asked.wait(10)
        followed.ovsdb.confirm(lambda: None)  # it waits in the queue to the thread
        closing.start()
        closing.join(10)
        assert not closing.is_alive()
    finally:
        may_answer.set()
        for each in (writing, closing, thread):
            each.join(20)
    # The port came before the answer, and is not reported.
    assert len(followed.seen) == reports


class NoRecords:
    """A store without records, and the follower of it."""

    confirms_cheaply = False

    def __init__(self) -> None:
        self.is_closed = False

    def follow(self, _listener: Any) -> "NoRecords":
        return self

    def set_ports(self, _port_ids: Any) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def test_a_watcher_has_what_ovsdb_shows(
    switch: OpenVSwitch, caplog: pytest.LogCaptureFixture
) -> None:
    interface = switch.plug("tap1", 5, interface={"external_ids": ["map", [["iface-id", "p"]]]})
    source = NoRecords()
    with caplog.at_level(logging.INFO):
        watcher = PortWatcher(switch.remote, "br-int", cast("Store", source), lambda: None)
    assert "bridge br-int is there" in caplog.text
    bridge = watcher.bridge
    assert bridge is not None
    assert bridge.interfaces == by_name([Interface("tap1", 5, "p")])
    assert watcher.take_left() is None
    switch.unplug(*interface)
    wait_for(lambda: watcher.bridge != bridge, "the change")
    assert watcher.take_left() == frozenset({5})
    watcher.close()
    assert source.is_closed


def test_a_watcher_without_ovsdb_leaves_nothing_open(tmp_path: Path) -> None:
    source = NoRecords()
    with pytest.raises(OvsdbUnreachable):
        PortWatcher(f"unix:{tmp_path}/none", "br-int", cast("Store", source), lambda: None)
    assert source.is_closed


def test_a_malformed_record_is_logged(
    switch: OpenVSwitch, caplog: pytest.LogCaptureFixture
) -> None:
    listeners: list[Any] = []

    class Told(NoRecords):
        def follow(self, listener: Any) -> "NoRecords":
            listeners.append(listener)
            return self

    watcher = PortWatcher(switch.remote, "br-int", cast("Store", Told()), lambda: None)
    state: PortState = MalformedRecord("port", "it is no JSON")
    listeners[0]("port", state)
    watcher.close()
    assert "port port is not served" in caplog.text


def test_ovsdb_names_the_southbound_database(switch: OpenVSwitch, tmp_path: Path) -> None:
    ids = [["ovn-remote", "ssl:10.0.0.1:6642"], ["system-id", "hv1"]]
    files = {"private_key": "/key", "certificate": "/certificate", "ca_cert": "/authorities"}
    switch.answer = lambda _: [{"rows": [{"external_ids": ["map", ids]}]}, {"rows": [files]}]
    config = replace(load(), ovsdb_connection=switch.remote)
    tls = TlsFiles("/key", "/certificate", "/authorities")
    assert locate(config) == Location("ssl:10.0.0.1:6642", "hv1", None, tls)
    ((database, switches, certificates),) = switch.asked("transact")
    assert (database, switches["table"], certificates["table"]) == (
        *("Open_vSwitch", "Open_vSwitch"),
        "SSL",
    )
    switch.answer = lambda _: [{"rows": []}, {"rows": []}]
    with pytest.raises(Exception, match="ovn-remote of Open_vSwitch is not set"):
        locate(config)
    with pytest.raises(StoreUnavailable, match=r"none does not say where .* No such file"):
        locate(replace(config, ovsdb_connection=f"unix:{tmp_path}/none"))
