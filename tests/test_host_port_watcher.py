"""What is kept of OVSDB and the store, and whom a confirmation asks."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import cast
from uuid import UUID

import pytest

from ovs_metadata.host import port_watcher
from ovs_metadata.host.address import place_of
from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.option_documents import paths_of
from ovs_metadata.host.ovsdb import Bridge
from ovs_metadata.host.port_watcher import PortWatcher
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.layout import network_path
from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.record import PortRecord, SubPort
from ovs_metadata.store.store import Store

RECORD = PortRecord(
    port_id=str(UUID(int=1)),
    project_id="project",
    device_id=str(UUID(int=2)),
    device_owner="compute:nova",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=("10.0.0.5",),
    network_id=str(UUID(int=3)),
    revision_number=1,
)
TAP = Interface("tap1", 5, iface_id=RECORD.port_id, vm_uuid=RECORD.device_id)
UNNAMED = replace(TAP, vm_uuid=None)
"""Nova's vm-uuid is not there: the record is the only word on the instance."""
DHCP = Interface("tap2", 6, iface_id=str(UUID(int=4)))


class FakeOvsdb:
    """Confirms at once, and notes that it was asked."""

    def __init__(self, log: list[str], on_change: Callable[[Bridge | None], None]) -> None:
        self._log = log
        self.show = on_change
        on_change(None)

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        self._log.append("ovsdb")
        on_confirmed()


class FakeStore:
    """A store, and the follower of it."""

    def __init__(self, log: list[str], *, cheap: bool) -> None:
        self._log = log
        self.confirms_cheaply = cheap

    def follow(self, listener: Callable[[str, PortState], None]) -> "FakeStore":
        self.tell = listener
        return self

    def close(self) -> None:
        self._log.append("closed")

    def set_ports(self, port_ids: Collection[str]) -> None:
        self.followed = set(port_ids)

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        self._log.append("store")
        on_confirmed()


class Host:
    """A watcher with sources that the test speaks for."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        cheap: bool = False,
        documents: "FakeDocuments | None" = None,
    ) -> None:
        self.log: list[str] = []
        self.store = FakeStore(self.log, cheap=cheap)
        monkeypatch.setattr(
            port_watcher, "Ovsdb", lambda _target, _name, on_change: FakeOvsdb(self.log, on_change)
        )
        self.watcher = PortWatcher(
            *("", "br-int", cast("Store", self.store), lambda: None), documents=documents
        )
        self.ovsdb = cast("FakeOvsdb", self.watcher.ovsdb)

    def shows(self, *interfaces: Interface) -> None:
        self.ovsdb.show(Bridge("br-int", interfaces=by_name(interfaces)))

    def asked(self) -> list[str]:
        """Who is asked for a confirmation, until it is there."""
        self.log.clear()
        self.watcher.confirm(lambda: self.log.append("confirmed"))
        return self.log


def test_the_record_of_a_port_that_has_left_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    host.shows(TAP)
    host.shows()
    host.store.tell(RECORD.port_id, RECORD)  # it was on its way
    host.shows(TAP)
    assert host.watcher.state().host_ports.undecided == {5}
    host.store.tell(RECORD.port_id, RECORD)
    assert host.watcher.state().host_ports.served[5].record == RECORD


def test_the_record_of_a_port_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    host.shows(TAP)
    host.store.tell(RECORD.port_id, RECORD)
    host.shows()
    host.shows(TAP)
    assert host.watcher.state().host_ports.undecided == {5}


def test_the_sub_ports_of_a_trunk_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    host.shows(TAP)
    sub_port = replace(
        RECORD, port_id=str(UUID(int=5)), device_owner="trunk:subport", device_id=RECORD.port_id
    )
    parent = replace(RECORD, sub_ports=(SubPort(7, sub_port.port_id),))
    host.store.tell(RECORD.port_id, parent)
    assert host.store.followed == {RECORD.port_id, sub_port.port_id}
    host.store.tell(sub_port.port_id, sub_port)
    assert set(host.watcher.state().host_ports.served) == {5, place_of(5, 7)}
    assert host.asked() == ["ovsdb", "confirmed"]
    host.store.tell(RECORD.port_id, RECORD)
    assert host.store.followed == {RECORD.port_id}
    assert set(host.watcher.state().host_ports.served) == {5}
    # Its record is not kept: what is known of it may be old when it returns.
    host.store.tell(RECORD.port_id, parent)
    assert host.watcher.state().host_ports.undecided == {place_of(5, 7)}
    host.shows()
    assert host.store.followed == set()


def test_the_last_word_on_what_is_followed_is_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records and OVSDB change at one time, and the earlier of two calls ends last."""
    host = Host(monkeypatch)
    host.shows(TAP)
    take = host.store.set_ports

    def late(port_ids: Collection[str]) -> None:
        monkeypatch.setattr(host.store, "set_ports", take)
        host.shows(TAP, DHCP)  # the other thread, meanwhile
        take(port_ids)

    monkeypatch.setattr(host.store, "set_ports", late)
    host.store.tell(RECORD.port_id, replace(RECORD, sub_ports=(SubPort(7, str(UUID(int=5))),)))
    assert host.store.followed == {RECORD.port_id, DHCP.iface_id, str(UUID(int=5))}


def test_ovsdb_alone_confirms_what_it_says_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    host.shows(TAP, DHCP)
    host.store.tell(RECORD.port_id, RECORD)
    host.store.tell(str(DHCP.iface_id), replace(RECORD, device_owner="network:dhcp"))
    assert host.asked() == ["ovsdb", "confirmed"]


def test_the_store_confirms_what_it_alone_says(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    host.shows(UNNAMED)
    host.store.tell(RECORD.port_id, RECORD)
    assert host.asked() == ["ovsdb", "store", "confirmed"]
    host.shows(TAP)
    assert host.asked() == ["ovsdb", "confirmed"]
    host.store.tell(RECORD.port_id, replace(RECORD, device_owner="trunk:subport"))
    host.shows(UNNAMED)
    assert host.asked() == ["ovsdb", "store", "confirmed"]


def test_a_store_that_is_close_at_hand_is_always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, cheap=True)
    host.shows(TAP)
    host.store.tell(RECORD.port_id, RECORD)
    assert host.asked() == ["ovsdb", "store", "confirmed"]


class FakeDocuments(FakeStore):
    """A store of documents, and the follower of them."""

    def follow_documents(self, listener: Callable[[str, bytes | None], None]) -> FakeStore:
        self.tell_document = listener
        return self

    def set_ports(self, port_ids: Collection[str]) -> None:
        self.followed = set(port_ids)


def test_a_port_is_decided_once_its_options_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = FakeDocuments([], cheap=True)
    host = Host(monkeypatch, documents=documents)
    host.shows(TAP)
    host.store.tell(RECORD.port_id, RECORD)
    paths = set(paths_of(RECORD.project_id, RECORD.network_id))
    assert documents.followed == paths
    for path in paths:
        assert host.watcher.state().host_ports.undecided == {5}
        documents.tell_document(path, None)
    assert host.watcher.state().host_ports.served[5].record == RECORD
    network = NetworkOptions(RECORD.network_id, "project", ("metadata:hop-limit=1",), 1)
    documents.tell_document(network_path(RECORD.network_id), network.to_json())
    assert host.watcher.state().host_ports.served[5].options.options.hop_limit == 1
    documents.followed.clear()
    host.store.tell(RECORD.port_id, replace(RECORD, revision_number=2))
    assert documents.followed == set()  # nothing is new, so nothing is looked at
    host.shows()
    assert documents.followed == set()
    host.shows(TAP)
    host.store.tell(RECORD.port_id, RECORD)
    assert documents.followed == paths
