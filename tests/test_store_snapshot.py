"""What was last known, in a file."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.store.snapshot import (
    MAX_NODES,
    SPARE,
    CachedNode,
    Snapshot,
    parse_snapshot,
)

STORE = "zk1:2181/cloud"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "agent.snapshot"


def _again(file: Path, store: str = STORE) -> Snapshot:
    return Snapshot(file, store)


def test_what_was_noted_is_known_after_a_restart(file: Path) -> None:
    snapshot = Snapshot(file, STORE)
    snapshot.put("/a", CachedNode(b"\0\xff"))
    snapshot.put("/absent", CachedNode(None))
    snapshot.put("/b", CachedNode(b"b"))
    snapshot.put("/b", None)
    assert snapshot.save(now=True) is None
    again = _again(file)
    assert again.get("/a") == CachedNode(b"\0\xff")
    assert again.get("/absent") == CachedNode(None)
    assert again.get("/b") is None
    assert again.get("/never") is None


def test_only_its_owner_reads_it_and_nothing_else_is_left(file: Path) -> None:
    snapshot = Snapshot(file, STORE)
    snapshot.put("/a", CachedNode(b"secret"))
    snapshot.save(now=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_it_is_written_when_something_changed_and_not_too_often(file: Path) -> None:
    snapshot = Snapshot(file, STORE)
    assert snapshot.save() is None
    assert not file.exists()
    snapshot.put("/a", CachedNode(b"1"))
    assert snapshot.save() is None
    snapshot.put("/a", CachedNode(b"1"))
    assert snapshot.save() is None
    snapshot.put("/a", CachedNode(b"2"))
    due = snapshot.save()
    assert due is not None
    assert 0 < due <= 1
    assert _again(file).get("/a") == CachedNode(b"1")
    assert snapshot.save(now=True) is None
    assert _again(file).get("/a") == CachedNode(b"2")


def test_what_is_no_longer_followed_stays_while_there_is_room(file: Path) -> None:
    snapshot = Snapshot(file, STORE)
    snapshot.put("/config", CachedNode(b"1"))
    for number in range(2 * MAX_NODES):
        snapshot.put(f"/{number}", CachedNode(b"1"))
        snapshot.unpin(f"/{number}")
    assert snapshot.get("/config") == CachedNode(b"1")
    assert snapshot.get(f"/{MAX_NODES}") is None
    assert snapshot.get(f"/{MAX_NODES + 1}") == CachedNode(b"1")
    assert snapshot.get(f"/{2 * MAX_NODES - 1}") == CachedNode(b"1")


def test_what_is_followed_again_or_asked_for_stays(file: Path) -> None:
    snapshot = Snapshot(file, STORE)
    for path in ("/noted", "/asked", "/given-up"):
        snapshot.put(path, CachedNode(b"1"))
        snapshot.unpin(path)
    snapshot.put("/noted", CachedNode(b"1"))
    assert snapshot.get("/asked")
    for number in range(MAX_NODES):
        snapshot.put(f"/{number}", CachedNode(b"1"))
    assert [bool(snapshot.get(path)) for path in ("/noted", "/asked", "/given-up")] == [
        *(True, True, False)
    ]


def test_what_is_followed_is_kept_however_much_it_is(file: Path) -> None:
    snapshot = Snapshot(file, STORE)
    for number in range(MAX_NODES + 10):
        snapshot.put(f"/{number}", CachedNode(b"1"))
    snapshot.save(now=True)
    again = _again(file)
    assert all(again.get(f"/{number}") for number in range(MAX_NODES + 10))


def test_unfollowed_nodes_of_a_former_process_are_removed_first(file: Path) -> None:
    before = Snapshot(file, STORE)
    for number in range(MAX_NODES):
        before.put(f"/{number}", CachedNode(b"1"))
    before.save(now=True)
    snapshot = _again(file)
    snapshot.put("/0", CachedNode(b"1"))
    snapshot.put("/new", CachedNode(b"1"))
    assert snapshot.get("/0")
    assert snapshot.get("/1") is None
    assert snapshot.get("/2")


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_a_file_open_to_others_is_not_believed(
    file: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = Snapshot(file, STORE)
    snapshot.put("/a", CachedNode(b"1"))
    snapshot.save(now=True)
    file.chmod(mode)
    assert _again(file).get("/a") is None
    assert "another user may have written" in caplog.text


def test_a_file_of_another_store_is_not_believed(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = Snapshot(file, STORE)
    snapshot.put("/a", CachedNode(b"1"))
    snapshot.save(now=True)
    assert _again(file, "zk2:2181").get("/a") is None
    assert "belongs to another store" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"half of a",
        b"[" * 100_000,
        b"[]",
        b'{"format": 2, "store": "zk1:2181/cloud", "nodes": {}}',
        b'[3, "zk1:2181/cloud"]\n',
        b'[2, "zk1:2181/cloud"]\n["/a", 1]\n',
        b'[2, "zk1:2181/cloud"]\n["/a", "not base64"]\n',
        b'[2, "zk1:2181/cloud"]\n[]\n["/a", null]\n',
        b'[2, "zk1:2181/cloud"]\n[1, null]\n',
        b'[2, "zk1:2181/cloud"]\nhalf of a\n["/a", null]\n',
        b'{"format": 1, "store": "zk1:2181/cloud", "nodes": []}',
        b'{"format": 1, "store": "zk1:2181/cloud", "nodes": {"/a": 1}}',
        b'{"format": 1, "store": "zk1:2181/cloud", "nodes": {"/a": "not base64"}}',
        b"\xff\xfe",
    ],
)
def test_what_is_damaged_counts_as_empty_and_is_replaced(
    file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    file.touch(mode=0o600)
    file.write_bytes(content)
    snapshot = Snapshot(file, STORE)
    assert snapshot.get("/a") is None
    assert caplog.text.count("ignoring snapshot") == 1
    assert "\n" not in caplog.messages[0]
    snapshot.put("/a", CachedNode(b"1"))
    snapshot.save(now=True)
    assert _again(file).get("/a") == CachedNode(b"1")


def test_a_file_of_an_earlier_release_is_read(file: Path) -> None:
    file.parent.mkdir()
    file.touch(mode=0o600)
    nodes = {"/a": "MQ==", "/absent": None}
    file.write_text(json.dumps({"format": 1, "store": STORE, "nodes": nodes}))
    snapshot = Snapshot(file, STORE)
    assert snapshot.get("/a") == CachedNode(b"1")
    assert snapshot.get("/absent") == CachedNode(None)
    snapshot.put("/b", CachedNode(b"2"))
    snapshot.save(now=True)
    assert _again(file).get("/a") == CachedNode(b"1")
    assert _again(file).get("/b") == CachedNode(b"2")


def test_a_save_writes_what_has_changed_however_much_there_is(file: Path) -> None:
    snapshot = Snapshot(file, STORE)
    for number in range(1000):
        snapshot.put(f"/{number}", CachedNode(b"1" * 100))
    snapshot.save(now=True)
    whole = file.read_bytes()
    snapshot.put("/5", CachedNode(b"2"))
    snapshot.save(now=True)
    assert file.read_bytes() == whole + b'["/5", "Mg=="]\n'
    snapshot.put("/5", None)
    snapshot.save(now=True)
    assert file.read_bytes() == whole + b'["/5", "Mg=="]\n["/5"]\n'
    sizes = []
    for number in range(300):
        snapshot.put("/6", CachedNode(b"%d" % number * 500))
        snapshot.save(now=True)
        sizes.append(file.stat().st_size)
    assert max(sizes) <= 2 * len(whole) + SPARE + 5000
    assert 0 < sum(after < before for before, after in zip(sizes, sizes[1:])) < 5
    assert _again(file).get("/6") == CachedNode(b"299" * 500)


PATHS = [f"/{number}" for number in range(4)]


@given(st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(["1", "22", None, "gone"]))))
def test_after_any_changes_the_file_has_what_is_known(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, str | None]]
) -> None:
    file = tmp_path_factory.mktemp("snapshot") / "agent.snapshot"
    snapshot = Snapshot(file, STORE)
    for number, (path, content) in enumerate(changes):
        known = CachedNode(content.encode() if content else None)
        snapshot.put(path, None if content == "gone" else known)
        if number % 2:
            snapshot.save(now=True)
            again = _again(file)
            assert [again.get(each) for each in PATHS] == [snapshot.get(each) for each in PATHS]


def test_a_line_that_was_not_written_to_its_end_does_not_count(file: Path) -> None:
    snapshot = Snapshot(file, STORE)
    snapshot.put("/a", CachedNode(b"1"))
    snapshot.save(now=True)
    whole = file.read_bytes()
    file.write_bytes(whole + b'["/a", "Mg')
    assert _again(file).get("/a") == CachedNode(b"1")
    # And nothing is appended to it.
    snapshot.put("/b", CachedNode(b"2"))
    snapshot.save(now=True)
    assert file.read_bytes() == whole + b'["/b", "Mg=="]\n'


@pytest.mark.parametrize("remove", ["file", "link"])
def test_a_file_that_is_gone_is_written_as_a_whole(file: Path, remove: str) -> None:
    snapshot = Snapshot(file, STORE)
    snapshot.put("/a", CachedNode(b"1"))
    snapshot.save(now=True)
    file.unlink()
    if remove == "link":
        file.symlink_to(file.with_name("another"))
    snapshot.put("/b", CachedNode(b"2"))
    due = snapshot.save(now=True)
    if due is not None:  # the next attempt
        snapshot.save(now=True)
    assert not file.is_symlink()
    assert _again(file).get("/a") == CachedNode(b"1")
    assert _again(file).get("/b") == CachedNode(b"2")


def test_a_file_that_is_too_long_counts_as_empty(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = Snapshot(file, STORE)
    snapshot.put("/a", CachedNode(b"1"))
    snapshot.put("/b", CachedNode(b"1" * 100))
    snapshot.save(now=True)
    monkeypatch.setattr("ovs_metadata.store.snapshot.MAX_SIZE", 100)
    assert _again(file).get("/a") is None


def test_an_unwritable_file_is_logged_once_and_tried_again(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = Snapshot(file, STORE)
    file.parent.write_bytes(b"in the way")
    snapshot.put("/a", CachedNode(b"1"))
    assert snapshot.save(now=True) is not None
    assert snapshot.save(now=True) is not None
    assert caplog.text.count("cannot write snapshot") == 1
    file.parent.unlink()
    assert snapshot.save(now=True) is None
    assert _again(file).get("/a") == CachedNode(b"1")


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode))
def test_whatever_a_file_holds_it_is_read_or_refused(content: bytes) -> None:
    try:
        parse_snapshot(content, STORE)
    except (ValueError, RecursionError):
        return
    raise AssertionError("nothing of this is a snapshot")


@pytest.mark.parametrize("mode", [0o770, 0o1777])
def test_a_directory_that_others_can_write_to_holds_no_snapshot(
    file: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    written = Snapshot(file, "store")
    written.put("/a", CachedNode(b"1"))
    written.save(now=True)
    file.parent.chmod(mode)
    assert Snapshot(file, "store").get("/a") is None
    assert "can be written to by others" in caplog.text
    before = file.read_bytes()
    written.put("/a", CachedNode(b"2"))
    written.save(now=True)
    assert file.read_bytes() == before
