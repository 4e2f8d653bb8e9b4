"""Publishing beside the threads that make changes: outages, forks, and races of several servers."""

import contextlib
import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from contracts.store_support import record
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.rig.process import wait_for
from ovs_metadata.publisher import publisher as module
from ovs_metadata.publisher.ports import Change
from ovs_metadata.publisher.publisher import Publisher, publish
from ovs_metadata.store import open_store
from ovs_metadata.store.interface import StoreUnavailable
from ovs_metadata.store.record import MAX_REVISION, PortRecord
from ovs_metadata.store.store import Store


def change(wanted: PortRecord) -> Change:
    return Change(wanted.port_id, wanted.revision_number, wanted)


def removal(wanted: PortRecord) -> Change:
    return Change(wanted.port_id, MAX_REVISION, None)


def test_changes_reach_the_store(url: str, store: Store) -> None:
    publisher = Publisher(lambda: open_store(url))
    publisher.submit(change(record(1)))
    publisher.submit(change(record(2)))
    assert publisher.flush(10)
    assert dict(store.records()) == {r.port_id: r for r in (record(1), record(2))}
    publisher.submit(removal(record(1)))
    assert publisher.flush(10)
    assert list(store.port_ids()) == [record(2).port_id]


def test_without_a_change_there_is_neither_thread_nor_store() -> None:
    def refuse() -> Store:
        raise AssertionError("opened without need")

    before = threading.active_count()
    assert Publisher(refuse).flush(0)
    assert threading.active_count() == before


def test_submitting_never_waits_for_the_store(url: str, store: Store) -> None:
    open_now = threading.Event()

    def open_late() -> Store:
        assert open_now.wait(10)
        return open_store(url)

    publisher = Publisher(open_late)
    publisher.submit(change(record(1)))
    publisher.submit(change(record(2)))
    assert not publisher.flush(0)
    open_now.set()
    assert publisher.flush(10)
    assert len(list(store.port_ids())) == 2


def test_an_outage_is_waited_for_and_only_the_last_state_is_written(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.01)
    failures = iter(range(3))

    def open_at_last() -> Store:
        if next(failures, None) is not None:
            raise StoreUnavailable("no server answers")
        return open_store(url)

    publisher = Publisher(open_at_last)
    for revision in range(1, 6):
        publisher.submit(change(record(1, revision)))
    assert publisher.flush(10)
    assert store.get(record(1).port_id) == record(1, 5)
    messages = [entry.getMessage() for entry in caplog.records if entry.name == module.__name__]
    assert sum("no server answers" in message for message in messages) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_replaced_by_the_next_change(url: str, store: Store) -> None:
    opened: list[threading.Thread] = []

    def fail_once() -> Store:
        opened.append(threading.current_thread())
        if len(opened) == 1:
            raise SystemExit
        return open_store(url)

    publisher = Publisher(fail_once)
    publisher.submit(change(record(1)))
    wait_for(lambda: opened and not opened[0].is_alive(), "the thread to end")
    publisher.submit(change(record(2)))
    assert publisher.flush(10)
    assert list(store.port_ids()) == [record(2).port_id]


def test_a_forked_process_publishes_by_itself(url: str, store: Store) -> None:
    publisher = Publisher(lambda: open_store(url))
    publisher.submit(change(record(1)))
    assert publisher.flush(10)
    child = os.fork()
    if child == 0:
        publisher.submit(change(record(2)))
        os._exit(0 if publisher.flush(10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(store.port_ids()) == [record(1).port_id, record(2).port_id]
    publisher.submit(change(record(3)))
    assert publisher.flush(10)
    assert len(list(store.port_ids())) == 3


def test_what_waits_is_published_by_the_parent_and_not_by_the_child(url: str, store: Store) -> None:
    open_now = threading.Event()

    def open_late() -> Store:
        assert open_now.wait(10)
        return open_store(url)

    publisher = Publisher(open_late)
    publisher.submit(change(record(1)))
    child = os.fork()
    if child == 0:
        os._exit(0 if publisher.flush(0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not publisher.flush(0)
    open_now.set()
    assert publisher.flush(10)
    assert list(store.port_ids()) == [record(1).port_id]


def test_a_port_that_comes_into_a_trunk_again_is_published_again(tmp_path: Path) -> None:
    subport = replace(record(1), device_owner="trunk:subport", device_id=record(2).port_id)
    with contextlib.closing(open_store(f"directory:{tmp_path}")) as store:
        assert publish(store, change(subport))
        assert publish(store, Change(subport.port_id, subport.revision_number, None))
        assert publish(store, change(subport))
        publish(store, removal(subport))
        assert not publish(store, change(subport))


# A directory store syncs each write to the disk.
@settings(deadline=None, max_examples=40)
@given(data=st.data(), updates=st.integers(1, 5), deleted=st.booleans())
def test_in_whatever_order_changes_arrive_the_last_state_stays(
    data: st.DataObject, updates: int, deleted: bool
) -> None:
    history = [
        change(replace(record(1, revision), device_id=f"instance-{revision}"))
        for revision in range(1, updates + 1)
    ]
    if deleted:
        history.append(removal(record(1)))
    arrivals = data.draw(st.permutations(history))
    # What a server has published may be published once more: after a lost answer, for example.
    arrivals += data.draw(st.lists(st.sampled_from(history), max_size=3))
    with (
        tempfile.TemporaryDirectory() as root,
        contextlib.closing(open_store(f"directory:{root}")) as store,
    ):
        for arrival in arrivals:
            publish(store, arrival)
        left = dict(store.records())
    assert left == ({} if deleted else {record(1).port_id: history[-1].record})
