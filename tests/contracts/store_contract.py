"""What every store must do: one suite, run against each implementation.

A test module subclasses `StoreContract`, imports the fixtures of `contracts.store_support`, and
defines a fixture `place`, a `Place`: an empty store of the implementation, into which nodes can be
written behind its back.
"""

from __future__ import annotations

# Assertions are what this module is for.
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import UUID

import pytest

from contracts.store_document_contract import AnnouncementContract, DocumentContract, LockContract
from contracts.store_follow_contract import FollowContract
from contracts.store_support import Place, StateRecorder, record
from lab.rig.process import wait_for
from ovs_metadata.store.errors import MalformedRecord, RecordNotFound, StoreError, UnknownLayout
from ovs_metadata.store.layout import VERSION_NODE, config_project_path, network_path, port_path
from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

T = TypeVar("T")


def _after(barrier: threading.Barrier, operation: Callable[..., T], *arguments: object) -> T:
    """Carry out an operation just before another client carries out its own."""
    barrier.wait(timeout=10)
    return operation(*arguments)


class RecordContract:
    """Reading and writing records."""

    def test_a_record_reads_as_it_was_written(self, place: Place, store: Store) -> None:
        """By each client that opens the store."""
        assert store.put(record())
        other = place.open()
        try:
            assert other.get(record().port_id) == record()
        finally:
            other.close()

    def test_an_absent_record_is_not_found_by_name(self, store: Store) -> None:
        """The error names the port."""
        with pytest.raises(RecordNotFound, match=record().port_id):
            store.get(record().port_id)

    @pytest.mark.parametrize("name", ["", "tap0", "../../../etc/passwd", "0" * 32, "é"])
    def test_what_is_no_port_id_has_no_record(self, store: Store, name: str) -> None:
        """Interfaces may carry anything in iface-id."""
        store.put(record())
        with pytest.raises(RecordNotFound):
            store.get(name)
        assert not store.delete(name)

    @pytest.mark.parametrize(
        ("stored", "written", "wins"),
        [
            (record(revision=2), record(revision=3, instance=9), True),
            (record(revision=2), record(revision=1, instance=9), False),
            (record(revision=2), record(revision=2, instance=9), False),
            (record(revision=2), record(revision=2), True),
        ],
        ids=["newer", "older", "same revision, other content", "the same"],
    )
    def test_the_higher_revision_wins(
        self, store: Store, stored: PortRecord, written: PortRecord, wins: bool
    ) -> None:
        """A late, older update never overwrites a newer one."""
        assert store.put(stored)
        assert store.put(written) is wins
        assert store.get(stored.port_id) == (written if wins else stored)

    def test_force_wins_over_everything(self, store: Store) -> None:
        """Also over a newer record."""
        store.put(record(revision=5))
        assert store.put(record(revision=1, instance=9), force=True)
        assert store.get(record().port_id) == record(revision=1, instance=9)

    def test_a_malformed_record_is_refused_and_can_be_replaced(
        self, place: Place, store: Store
    ) -> None:
        """It loses against any record."""
        store.put(record(2))
        place.write(port_path(record().port_id), b"nonsense")
        with pytest.raises(MalformedRecord, match=record().port_id):
            store.get(record().port_id)
        assert store.put(record(revision=0))
        assert store.get(record().port_id) == record(revision=0)

    def test_concurrent_writers_end_at_the_highest_revision(self, place: Place) -> None:
        """Each with a store of its own, and revisions in an order of its own."""
        stores = [place.open() for _ in range(4)]

        def write(number: int) -> None:
            for step in range(12):
                stores[number].put(record(revision=1 + (step * 5 + number) % 12))

        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(write, range(4)))
            assert stores[0].get(record().port_id).revision_number == 12
        finally:
            for store in stores:
                store.close()

    def test_of_concurrent_writers_of_one_revision_exactly_one_wins(self, place: Place) -> None:
        """The others get an error, and the store has the winner's value."""
        stores = [place.open() for _ in range(6)]
        try:
            for revision in range(1, 9):
                together = threading.Barrier(6)

                def write(
                    number: int, revision: int = revision, together: threading.Barrier = together
                ) -> bool:
                    together.wait(timeout=10)
                    return stores[number].put(record(revision=revision, instance=number + 1))

                with ThreadPoolExecutor(6) as pool:
                    won = [number for number, true in enumerate(pool.map(write, range(6))) if true]
                assert len(won) == 1
                assert stores[0].get(record().port_id).device_id == str(UUID(int=won[0] + 1))
        finally:
            for store in stores:
                store.close()

    def test_delete(self, place: Place, store: Store) -> None:
        """Removes a record, also a malformed one, and says whether it did."""
        assert not store.delete(record().port_id)
        store.put(record())
        assert store.delete(record().port_id)
        assert not store.delete(record().port_id)
        place.write(port_path(record().port_id), b"nonsense")
        assert store.delete(record().port_id, revision_number=1)
        with pytest.raises(RecordNotFound):
            store.get(record().port_id)

    def test_delete_leaves_a_newer_record(self, store: Store) -> None:
        """A late delete is of a port as it was then."""
        store.put(record(revision=3))
        assert not store.delete(record().port_id, revision_number=2)
        assert store.get(record().port_id) == record(revision=3)
        assert store.delete(record().port_id, revision_number=3)

    def test_a_late_delete_never_takes_a_record_written_meanwhile(self, place: Place) -> None:
        """Whichever comes first, the newer record is there in the end."""
        writer, deleter = place.open(), place.open()
        try:
            for number in range(1, 41):
                old, new = record(number), record(number, revision=2)
                writer.put(old)
                together = threading.Barrier(2)
                with ThreadPoolExecutor(1) as pool:
                    deleted = pool.submit(_after, together, deleter.delete, old.port_id, 1)
                    assert _after(together, writer.put, new)
                    deleted.result(timeout=30)
                assert writer.get(new.port_id) == new
        finally:
            writer.close()
            deleter.close()

    def test_port_ids_are_those_of_all_records(self, place: Place, store: Store) -> None:
        """In order, malformed ones included, and nothing that is no record."""
        assert list(store.port_ids()) == []
        records = [record(number) for number in (300, 3, 44, 1)]
        for each in records:
            store.put(each)
        place.write(port_path(record(5).port_id), b"nonsense")
        place.write(f"{port_path(record(5).port_id)}.bak", b"")
        expected = sorted([*(each.port_id for each in records), record(5).port_id])
        assert list(store.port_ids()) == expected
        found = dict(store.records())
        assert list(found) == expected
        assert isinstance(found.pop(record(5).port_id), MalformedRecord)
        assert sorted(found.values(), key=lambda each: each.port_id) == sorted(
            records, key=lambda each: each.port_id
        )


class TombstoneContract:
    """A delete is not undone by what comes late."""

    @pytest.mark.parametrize("stored", [None, record(revision=2)], ids=["absent", "there"])
    def test_a_late_put_does_not_undo_a_delete(
        self, store: Store, stored: PortRecord | None
    ) -> None:
        """Of the deleted revision or an older one; a newer one is a port in use again."""
        if stored:
            store.put(stored)
        assert store.delete(record().port_id, 3) is bool(stored)
        for revision in (1, 2, 3):
            assert not store.put(record(revision=revision))
        assert not store.delete(record().port_id, 3)
        with pytest.raises(RecordNotFound):
            store.get(record().port_id)
        assert list(store.port_ids()) == []
        assert store.put(record(revision=4))
        assert store.get(record().port_id) == record(revision=4)

    def test_an_operator_may_put_what_was_deleted(self, store: Store) -> None:
        """By force, or having deleted it without a revision."""
        store.put(record(revision=2))
        store.delete(record().port_id, 2)
        assert store.put(record(revision=1), force=True)
        assert store.delete(record().port_id)
        assert store.put(record(revision=1))

    def test_of_a_put_and_a_delete_at_once_the_newer_wins(self, place: Place) -> None:
        """Whichever comes first."""
        writer, deleter = place.open(), place.open()
        try:
            for number in range(1, 31):
                port = record(number, revision=5)
                together = threading.Barrier(2)
                revision = 5 if number % 2 else 4
                with ThreadPoolExecutor(1) as pool:
                    deleted = pool.submit(_after, together, deleter.delete, port.port_id, revision)
                    _after(together, writer.put, port)
                    deleted.result(timeout=30)
                assert (port.port_id in writer.port_ids()) is (revision == 4)
        finally:
            writer.close()
            deleter.close()

    def test_tombstones_are_swept_when_they_are_old(self, place: Place, store: Store) -> None:
        """And nothing else."""
        store.put(record(1))
        for number in (2, 3):
            store.delete(record(number).port_id, 3)
        place.write(port_path(record(4).port_id), b"nonsense")
        assert store.sweep(older_than=3600) == 0
        assert store.sweep(older_than=-3600) == 2
        assert place.read(port_path(record(2).port_id)) is None
        assert store.put(record(2, revision=1))
        assert [port_id for port_id, _ in store.records()] == [
            record(number).port_id for number in (1, 2, 4)
        ]


class NetworkContract:
    """The metadata options of networks."""

    def test_of_a_networks_documents_the_higher_revision_wins(
        self, place: Place, store: Store
    ) -> None:
        """A document without tags keeps earlier revisions out until it is swept."""
        late, off = network(1, "metadata:hop-limit=1"), network(2)
        assert store.network(off.network_id) is None
        assert store.put_network(network(1, "metadata:hop-limit=2"))
        assert not store.put_network(late)
        assert store.put_network(late, force=True)
        assert store.put_network(off)
        assert store.put_network(off)
        assert not store.put_network(late)
        assert list(store.networks()) == [(off.network_id, off)]
        assert store.sweep(older_than=3600) == 0
        assert store.sweep(older_than=-3600) == 1
        assert store.put_network(late)
        assert store.sweep(older_than=-3600) == 0
        path = network_path(off.network_id)
        place.write(path, b"nonsense")
        assert list(store.networks()) == [(off.network_id, None)]
        assert store.sweep(older_than=-3600) == 0
        assert store.put_network(late)
        assert place.read(path) == late.to_json()

    def test_documents_are_followed_by_their_paths(self, store: Store) -> None:
        """Those that are asked for, also when they come later."""
        seen: list[tuple[str, bytes | None]] = []
        follower = store.follow_documents(lambda path, data: seen.append((path, data)))
        first = network_path(network(1).network_id)
        follower.set_ports([first])
        wait_for(lambda: seen == [(first, None)], "the absence")
        for revision in (1, 2):
            store.put_network(network(revision, "metadata:hop-limit=1"))
        latest = network(2, "metadata:hop-limit=1").to_json()
        wait_for(lambda: seen[-1] == (first, latest), "the document")
        second = config_project_path("p")
        store.write_document(second, b"{}", None)
        follower.set_ports([second])
        wait_for(lambda: seen[-1] == (second, b"{}"), "the other document")
        follower.close()


def network(revision: int, *tags: str) -> NetworkOptions:
    """The options of one network as of a revision."""
    return NetworkOptions(str(UUID(int=7)), "project-1", tags, revision)


class LayoutContract:
    """The version of the layout."""

    def test_the_first_record_makes_the_layout_and_reading_does_not(
        self, place: Place, store: Store
    ) -> None:
        """A client that only reads leaves no trace."""
        assert list(store.port_ids()) == []
        assert not store.delete(record().port_id)
        assert place.read(VERSION_NODE) is None
        store.put(record())
        assert place.read(VERSION_NODE) == b"2"

    def test_a_layout_of_another_version_is_refused(self, place: Place) -> None:
        """Naming both versions, and what to do."""
        place.write(VERSION_NODE, b"3")
        with pytest.raises(UnknownLayout, match=r"'3'.*'2'.*install") as refused:
            place.open()
        assert "\n" not in str(refused.value)

    def test_a_layout_that_turns_out_to_be_of_another_version_is_not_written_to(
        self, place: Place, store: Store
    ) -> None:
        """The store was empty when it was opened."""
        place.write(VERSION_NODE, b"3")
        with pytest.raises(UnknownLayout):
            store.put(record())
        with pytest.raises(UnknownLayout):
            store.get(record().port_id)
        assert place.read(port_path(record().port_id)) is None

    def test_a_follower_gives_up_on_a_layout_of_another_version(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It reports that, in the log and to the store's owner, and passes no state on."""
        errors: list[StoreError] = []
        received = StateRecorder()
        store = place.open(on_fatal=errors.append)
        try:
            place.write(VERSION_NODE, b"3")
            place.write(port_path(record().port_id), record().to_json())
            store.follow(received).set_ports([record().port_id])
            wait_for(lambda: errors, "the follower to give up")
        finally:
            store.close()
        assert isinstance(errors[0], UnknownLayout)
        assert len(errors) == 1
        assert str(errors[0]) in caplog.text
        assert received.calls == []


class StoreContract(
    RecordContract,
    TombstoneContract,
    NetworkContract,
    LayoutContract,
    FollowContract,
    DocumentContract,
    AnnouncementContract,
    LockContract,
):
    """All of it."""
