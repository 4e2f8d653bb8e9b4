"""Reconciling at the start and at intervals, one server at a time."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest

from lab.rig.process import wait_for
from lab.stand_ins.neutron_port import make_port
from ovs_metadata.publisher import reconciliation, repeated
from ovs_metadata.publisher.bulk import Source
from ovs_metadata.publisher.comparison import Action
from ovs_metadata.publisher.networks import Network
from ovs_metadata.publisher.paging import walk
from ovs_metadata.publisher.ports import Port, record_of
from ovs_metadata.publisher.reconciliation import LOCK, Reconciler, reconcile
from ovs_metadata.store import layout, open_store
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.interface import StoreUnavailable
from ovs_metadata.store.layout import port_path
from ovs_metadata.store.reconciliation import ReconciliationReport, read_report
from ovs_metadata.store.record import MAX_REVISION, MAX_TEXT
from ovs_metadata.store.store import Store

Start = Callable[..., Reconciler]


class Ports:
    """Neutron's ports; counts how often they were read, and fails as often as the test wants."""

    def __init__(self, *ports: Port) -> None:
        self.there = list(ports)
        self.read = 0
        self.failures = 0
        self.looked_up: dict[str, Port] | None = None

    def ports(self) -> Iterator[Port]:
        self.read += 1
        if self.failures:
            self.failures -= 1
            raise DatabaseGone("the database is away")
        return iter(sorted(self.there, key=lambda port: str(port["id"])))

    def lookup(self, port_ids: Collection[str]) -> Mapping[str, Port]:
        there = {port["id"]: port for port in self.there}
        found = there if self.looked_up is None else self.looked_up
        return {port_id: found[port_id] for port_id in port_ids if port_id in found}

    def networks(self) -> Iterator[Network]:
        return iter([])

    def lookup_networks(self, network_ids: Collection[str]) -> Mapping[str, Network]:
        raise AssertionError(network_ids)


class DatabaseGone(Exception):
    pass


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    started: list[Reconciler] = []

    def make(
        source: Ports, interval: float = 3600, opener: Callable[[], Store] | None = None
    ) -> Reconciler:
        reconciler = Reconciler(
            opener or (lambda: open_store(url)), source, interval, (DatabaseGone,)
        )
        started.append(reconciler)
        reconciler.start()
        return reconciler

    yield make
    for reconciler in started:
        reconciler.stop()
        reconciler.wait()


def test_everything_that_differs_is_repaired(store: Store) -> None:
    store.put(record_of(make_port(1, device_id="another", revision_number=2)))
    store.put(record_of(make_port(2)))
    result = reconcile(Ports(make_port(1), make_port(3)), store, threading.Event())
    assert result.refused == 0
    assert result.ports == {Action.ADD: 1, Action.UPDATE: 1, Action.REMOVE: 1}
    assert dict(store.records()) == {
        make_port(number)["id"]: record_of(make_port(number)) for number in (1, 3)
    }


@pytest.mark.parametrize("is_stopped", [False, True])
def test_old_tombstones_are_swept_unless_it_is_stopped(
    store: Store, url: str, *, is_stopped: bool
) -> None:
    old, young = make_port(1)["id"], make_port(2)["id"]
    files = [Path(url.removeprefix("directory:") + port_path(each)) for each in (old, young)]
    for port_id, file, hours in zip((old, young), files, (25, 23)):
        store.delete(port_id, MAX_REVISION)
        written = time.time() - hours * 3600
        os.utime(file, (written, written))
    stop = threading.Event()
    if is_stopped:
        stop.set()
    reconcile(Ports(), store, stop)
    assert [file.exists() for file in files] == [is_stopped, True]


def removed_by_mistake(store: Store, *ports: Port) -> None:
    """As a comparison does that read Neutron wrongly."""
    for port in ports:
        record = record_of(port)
        assert store.put(record)
        assert store.delete(record.port_id, record.revision_number)


def test_what_was_removed_by_mistake_is_added_again(store: Store) -> None:
    ports = [make_port(number) for number in range(5)]
    removed_by_mistake(store, *ports)
    result = reconcile(Ports(*ports), store, threading.Event())
    assert result.ports == {Action.ADD: 5}
    assert result.refused == 0
    assert dict(store.records()) == {port["id"]: record_of(port) for port in ports}


def test_a_port_deleted_while_ports_were_read_does_not_come_back(store: Store) -> None:
    deleted, unbound = make_port(1), make_port(2)
    # One tombstone is that of the deletion; the other is that of a recent update.
    store.delete(deleted["id"], MAX_REVISION)
    removed_by_mistake(store, unbound)
    source = Ports(deleted, unbound)
    spare = {**unbound, "device_owner": "", "device_id": ""}
    source.looked_up = {deleted["id"]: deleted, spare["id"]: spare}
    result = reconcile(source, store, threading.Event())
    assert result.ports == {}
    assert result.refused == 2
    assert list(store.port_ids()) == []


def test_most_records_are_not_removed_and_the_command_that_would_is_named(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ports = [make_port(number) for number in range(11)]
    reconcile(Ports(*ports), store, threading.Event())
    with caplog.at_level(logging.ERROR):
        result = reconcile(Ports(*ports[:5], make_port(90)), store, threading.Event())
    assert result.ports == {Action.NONE: 5, Action.ADD: 1}
    assert len(list(store.port_ids())) == 12
    assert "6 of 11 port records" in caplog.text
    assert "ovs-metadata port sync --from-neutron --force" in caplog.text
    reconcile(Ports(*ports[:6], make_port(90)), store, threading.Event())
    assert len(list(store.port_ids())) == 7


@pytest.mark.parametrize(("stale", "right"), [(1, 0), (2, 1), (5, 0)])
def test_a_few_records_are_removed_even_if_they_are_most(
    store: Store, caplog: pytest.LogCaptureFixture, stale: int, right: int
) -> None:
    ports = [make_port(number) for number in range(stale + right)]
    reconcile(Ports(*ports), store, threading.Event())
    result = reconcile(Ports(*ports[stale:]), store, threading.Event())
    assert result.ports[Action.REMOVE] == stale
    assert len(list(store.port_ids())) == right
    assert caplog.text == ""


def test_a_defect_is_logged_and_does_not_end_the_thread(
    start: Start, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Defective(Ports):
        def ports(self) -> Iterator[Port]:
            self.read += 1
            if self.read <= 2:
                raise ZeroDivisionError("a defect")
            return super().ports()

    start(Defective(make_port(1)), interval=0.05)
    wait_for(lambda: list(store.port_ids()), "the third turn")
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert all(record.exc_info for record in errors)
    assert "a defect" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_is_ended_is_an_error(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    class Exit(BaseException):
        """As greenlets are ended by."""

    def opener() -> Store:
        raise Exit("from outside")

    reconciler = start(Ports(), opener=opener)
    reconciler.wait()
    (logged,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "does not reconcile port records any more" in logged.message
    assert "from outside" in caplog.text


def test_a_thread_that_is_stopped_ends_quietly(
    start: Start, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler = start(Ports(make_port(1)))
    wait_for(lambda: list(store.port_ids()), "the first")
    reconciler.stop()
    reconciler.wait()
    assert "any more" not in caplog.text


def test_a_core_plugin_without_pages_is_logged_and_does_not_end_the_thread(
    start: Start, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Unpaged(Ports):
        def ports(self) -> Iterator[Port]:
            self.read += 1
            if self.read == 1:
                return walk(lambda _marker: self.there)
            return super().ports()

    source = Unpaged(make_port(1))
    start(source, interval=0.05)
    wait_for(lambda: source.read > 1, "a second turn")
    assert "sorts, limit and marker" in caplog.text
    wait_for(lambda: list(store.port_ids()), "the record")


def test_stopping_ends_it_between_two_ports(store: Store) -> None:
    stop = threading.Event()
    stop.set()
    reconcile(Ports(make_port(1)), store, stop)
    assert list(store.port_ids()) == []


def read(store: Store) -> ReconciliationReport:
    document = store.read_document(layout.RECONCILIATION)
    assert document is not None
    return read_report(document.data)


def reconciled(store: Store, source: Source) -> bool:
    """Have one turn of a server."""
    return Reconciler(lambda: store, source, 300).turn(store)


def test_a_turn_reports_what_it_did(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "ctl-1\n" + "x" * 300)
    store.put(record_of(make_port(1, device_id="another", revision_number=2)))
    store.put(record_of(make_port(2)))
    before = time.time()
    assert reconciled(store, Ports(make_port(1), make_port(3)))
    report = read(store)
    assert report.server == ("ctl-1\\n" + "x" * 300)[:MAX_TEXT]
    assert before <= report.time <= time.time()
    assert report.duration <= report.time - before
    assert report.interval == 300
    counted = {name: count for name, count in report.ports.items() if count}
    assert counted == {"added": 1, "updated": 1, "removed": 1}
    assert report.repaired == 3
    assert reconciled(store, Ports(make_port(1), make_port(3)))
    assert (read(store).ports["right"], read(store).repaired) == (2, 0)


def test_a_turn_reports_the_removals_that_it_leaves_to_an_operator(store: Store) -> None:
    ports = [make_port(number) for number in range(11)]
    reconcile(Ports(*ports), store, threading.Event())
    assert reconciled(store, Ports(*ports[:5]))
    assert (read(store).ports["removed"], read(store).ports["withheld"]) == (0, 6)


def test_only_a_whole_turn_with_the_lock_is_reported(store: Store) -> None:
    unpaged = Ports(make_port(1))
    unpaged.ports = lambda: walk(lambda _marker: unpaged.there)  # type: ignore[method-assign]
    assert reconciled(store, unpaged)
    stopped = Reconciler(lambda: store, Ports(make_port(1)), 300)
    stopped.stop()
    assert stopped.turn(store)
    with store.lock(LOCK):
        assert not reconciled(store, Ports(make_port(1)))
    assert store.read_document(layout.RECONCILIATION) is None


def test_a_report_that_cannot_be_written_leaves_the_turn_done(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_arguments: object) -> bool:
        raise StoreError("no permission")

    monkeypatch.setattr(store, "write_document", refuse)
    assert reconciled(store, Ports(make_port(1)))
    assert "cannot report the reconciliation in the store: no permission" in caplog.text
    assert list(store.port_ids()) == [make_port(1)["id"]]


def test_it_runs_at_the_start_and_at_each_interval(start: Start, store: Store) -> None:
    source = Ports(make_port(1), make_port(2))
    start(source, interval=0.05)
    wait_for(lambda: len(list(store.port_ids())) == 2, "the first")
    source.there.pop()
    wait_for(lambda: list(store.port_ids()) == [make_port(1)["id"]], "another")


def test_the_first_waits_for_another_server_to_be_done(
    start: Start, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(repeated, "RETRY_DELAY", 0.02)
    source = Ports(make_port(1))
    with store.lock(LOCK) as held, caplog.at_level(logging.DEBUG, reconciliation.__name__):
        assert held
        start(source)
        wait_for(lambda: "another server is reconciling" in caplog.text, "a turn left out")
        assert source.read == 0
    wait_for(lambda: list(store.port_ids()), "the first after the other's")


def test_a_failure_is_logged_once_and_tried_again(
    start: Start,
    store: Store,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(repeated, "RETRY_DELAY", 0.01)
    outage = iter(range(2))

    def opener() -> Store:
        if next(outage, None) is not None:
            raise StoreUnavailable("no server answers")
        return open_store(url)

    source = Ports(make_port(1))
    source.failures = 2
    with caplog.at_level(logging.WARNING, reconciliation.__name__):
        start(source, opener=opener)
        wait_for(lambda: list(store.port_ids()), "the record after the outage")
        wait_for(lambda: "1 added" in caplog.text, "the repair to be logged")
    assert caplog.text.count("cannot reconcile port records") == 1
