"""The directory store: the contract of all stores, and what is its own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ovs_metadata.store import open_store
from ovs_metadata.store.directory import DirectoryNodes
from ovs_metadata.store.errors import StoreError, StoreUnavailable
from ovs_metadata.store.layout import ROOT, port_path
from ovs_metadata.store.store import Store

pytest.register_assert_rewrite(
    "contracts.store_contract",
    "contracts.store_document_contract",
    "contracts.store_follow_contract",
)

from contracts.store_contract import StoreContract  # noqa: E402
from contracts.store_support import (  # noqa: E402
    Followed,
    Place,
    followed,
    record,
    store,
)

from lab.rig.process import wait_for  # noqa: E402

__all__ = ["followed", "store"]


def directory_store(root: Path) -> Store:
    return Store(DirectoryNodes(root))


class DirectoryPlace:
    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, on_fatal: Callable[[StoreError], None] | None = None) -> Store:
        return open_store(f"directory:{self.root}", on_fatal=on_fatal)

    def write(self, path: str, content: bytes) -> None:
        file = self.root / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def read(self, path: str) -> bytes | None:
        file = self.root / path.removeprefix("/")
        return file.read_bytes() if file.exists() else None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return DirectoryPlace(tmp_path / "not" / "there" / "yet")


class TestDirectoryStore(StoreContract):
    """The contract."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_only_its_owner_reads_it(root: Path) -> None:
    directory_store(root).put(record())
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert len(found) > 5
    for path, mode in found.items():
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_nothing_but_nodes_and_the_lock_is_left_by_writing(root: Path) -> None:
    store = directory_store(root)
    for revision in range(3):
        store.put(record(revision=revision))
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    base = ROOT.removeprefix("/")
    assert files == {
        f"{base}/.lock",
        f"{base}/version",
        port_path(record().port_id).removeprefix("/"),
    }


def test_what_a_killed_writer_left_does_no_harm(root: Path) -> None:
    store = directory_store(root)
    store.put(record(1))
    (root / ROOT.removeprefix("/") / ".new").write_bytes(b"half of a rec")
    assert store.put(record(2))
    assert list(store.port_ids()) == [record(1).port_id, record(2).port_id]
    assert store.get(record(2).port_id) == record(2)


def _write_all(root: Path, start: int) -> None:
    store = directory_store(root)
    for step in range(20):
        store.put(record(revision=1 + (step * 7 + start) % 20))


def test_writers_in_several_processes_end_at_the_highest_revision(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_all, args=(root, start)) for start in (0, 5, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
        writer.kill()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert directory_store(root).get(record().port_id).revision_number == 20


@pytest.mark.parametrize(
    "operation",
    [
        lambda store: store.put(record(revision=2)),
        lambda store: store.delete(record().port_id, 2),
    ],
    ids=["put", "delete"],
)
def test_a_writer_waits_for_its_turn_and_decides_then(
    root: Path, operation: Callable[[Store], bool]
) -> None:
    store = directory_store(root)
    store.put(record(revision=1))
    newer = record(revision=3)
    with (root / ROOT.removeprefix("/") / ".lock").open() as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = pool.submit(operation, store)
        # An operation that does not wait for the lock is done long before this is over.
        with contextlib.suppress(concurrent.futures.TimeoutError):
            outcome.result(timeout=0.3)
        newer_file = root / port_path(newer.port_id).removeprefix("/")
        newer_file.write_bytes(newer.to_json())
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert outcome.result(timeout=10) is False
    assert store.get(newer.port_id) == newer


def test_while_the_directory_is_away_the_last_known_stays(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = directory_store(root)
    store.put(record(1))
    following = Followed(store)
    following.settle(record(1).port_id)
    received = following.received
    away = root.rename(root.with_name("away"))
    wait_for(lambda: "is gone" in caplog.text, "the outage to be logged")
    before = list(received.calls)
    directory_store(away).put(record(1, revision=2))
    away.rename(root)
    received.wait_for(record(1).port_id, record(1, revision=2))
    assert received.calls[len(before) :] == [(record(1).port_id, record(1, revision=2))]
    assert caplog.text.count("is gone") == 1
    store.close()


def test_a_root_that_is_no_directory_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreUnavailable, match=r"store directory .*/file: Not a directory") as bad:
        directory_store(file)
    assert "\n" not in str(bad.value)


def test_a_directory_in_a_records_place_disturbs_no_other_port(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = directory_store(root)
    store.put(record(1))
    (root / port_path(record(2).port_id).removeprefix("/")).mkdir(parents=True)
    following = Followed(store)
    following.settle(record(1).port_id, record(2).port_id)
    assert following.received.of(record(1).port_id) == [record(1)]
    assert following.received.of(record(2).port_id) == []
    assert caplog.text.count(f"Is a directory: {root}") == 1
    store.close()


FOLLOW_PATCHED = """
import eventlet
eventlet.monkey_patch()
import sys
from dataclasses import replace
from lab.rig.process import wait_for
from contracts.store_support import StateRecorder, record
from ovs_metadata.store import open_store

store = open_store(sys.argv[1])
received = StateRecorder()
store.follow(received).set_ports([record().port_id])
received.wait_for(record().port_id, None)
for revision in (1, 2):
    store.put(record(revision=revision))
    received.wait_for(record().port_id, record(revision=revision))
pool = eventlet.GreenPool(8)
list(pool.imap(lambda number: store.put(record(number)), range(2, 40)))
assert len(list(store.port_ids())) == 39
store.close()
print("followed")
"""


def test_it_works_in_a_process_patched_by_eventlet(root: Path) -> None:
    tools = Path(__file__).parent.parent / "tools"
    done = subprocess.run(
        [sys.executable, "-c", FOLLOW_PATCHED, f"directory:{root}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": f"{tools}:{tools.parent}/tests"},
    )
    assert (done.stdout, done.returncode) == ("followed\n", 0), done.stderr


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "store"
    with contextlib.closing(open_store(f"directory:{root}")) as store:
        store.put(record())
        root.chmod(mode)
        with pytest.raises(StoreError, match=rf"mode {mode:04o}\): chmod 0700 it"):
            store.get(record().port_id)
    with pytest.raises(StoreError, match="decides which instance is which"):
        open_store(f"directory:{root}")


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    root.mkdir(mode=0o700)
    found = root.stat()
    changed = os.stat_result((*found[:4], 12345, *found[5:]))
    monkeypatch.setattr(Path, "stat", lambda *_, **__: changed)
    with pytest.raises(StoreError, match="belongs to user id 12345: chown it"):
        open_store(f"directory:{root}")
