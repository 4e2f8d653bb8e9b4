"""Followers of the directory store look at what the kernel reports as changed, and at no more."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.store_support import Followed, record

from lab.rig.process import wait_for
from ovs_metadata.store import directory_follower, directory_wake, open_store
from ovs_metadata.store.directory import DirectoryNodes
from ovs_metadata.store.inotify import Inotify
from ovs_metadata.store.layout import port_path
from ovs_metadata.store.store import Store

PORT = record().port_id


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there" / "yet"


@pytest.fixture
def store(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store whose followers look at everything once, at first."""
    monkeypatch.setattr(directory_follower, "LOOK_INTERVAL", 3600.0)
    with contextlib.closing(open_store(f"directory:{root}")) as store:
        yield store


def test_a_record_that_comes_changes_and_goes_is_reported_by_the_kernel(
    store: Store, root: Path
) -> None:
    store.put(record(9))
    following = Followed(store)
    following.settle(PORT)
    store.put(record())
    following.received.wait_for(PORT, record())
    store.put(record(revision=2))
    following.received.wait_for(PORT, record(revision=2))
    file = root / port_path(PORT).removeprefix("/")
    file.write_bytes(record(revision=3).to_json())
    following.received.wait_for(PORT, record(revision=3))
    store.delete(PORT)
    following.received.wait_for(PORT, None)


def test_directories_are_watched_as_they_come_go_and_come_back(store: Store, root: Path) -> None:
    following = Followed(store)
    following.settle()
    following.follower.set_ports([PORT])
    store.put(record())
    following.received.wait_for(PORT, record())
    away = root.rename(root.with_name("away"))
    with contextlib.closing(open_store(f"directory:{away}")) as other:
        other.put(record(revision=2))
    away.rename(root)
    following.received.wait_for(PORT, record(revision=2))
    store.put(record(revision=3))
    following.received.wait_for(PORT, record(revision=3))


def test_a_directory_is_watched_that_appears_while_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the attempt to watch it and before the next above is watched, which reports nothing."""
    directory = tmp_path / "new" / "newer"
    watch = Inotify.watch

    def watch_late(self: Inotify, path: str) -> None:
        if path == str(tmp_path):
            directory.mkdir(parents=True)
        watch(self, path)

    monkeypatch.setattr(Inotify, "watch", watch_late)
    with contextlib.closing(directory_wake.DirectoryWake()) as wake:
        wake.watch([str(directory)])
        (directory / "file").touch()
        assert (str(directory), "file") in wake.changes()


def test_a_change_costs_a_look_at_what_changed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [record(number) for number in range(1, 41)]
    for each in records:
        store.put(each)
    following = Followed(store)
    following.settle(*(each.port_id for each in records))
    looks: list[str] = []
    signature = directory_follower._signature

    def counted(file: str) -> tuple[int, int, int] | None:
        looks.append(file)
        return signature(file)

    monkeypatch.setattr(directory_follower, "_signature", counted)
    store.put(record(revision=2))
    following.received.wait_for(PORT, record(revision=2))
    ports = {file for file in looks if not file.endswith("version")}
    assert len(ports) == 1
    assert len(looks) < 20


def test_a_user_with_too_many_watches_has_files_looked_at_again_and_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TooMany:
        def __init__(self) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(directory_wake, "Inotify", TooMany)
    with contextlib.closing(open_store(f"directory:{root}")) as store:
        following = Followed(store)
        following.settle(PORT)
        for revision in (1, 2):
            store.put(record(revision=revision))
            following.received.wait_for(PORT, record(revision=revision))


def test_a_store_that_is_away_is_lost_until_it_is_back(store: Store, root: Path) -> None:
    store.put(record())
    following = Followed(store)
    following.settle(PORT)
    wait_for(lambda: store.disconnected_for() == 0, "a look at the store")
    away = root.rename(root.with_name("away"))
    wait_for(lambda: store.disconnected_for() > 0, "the loss")
    away.rename(root)
    wait_for(lambda: store.disconnected_for() == 0, "its end")
    file = root / port_path(PORT).removeprefix("/")
    file.unlink()
    file.mkdir()
    store.put(record(9))
    following.settle(record(9).port_id)
    assert store.disconnected_for() == 0, "one document that cannot be read is not the store"


def test_nothing_is_left_open(root: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with contextlib.closing(open_store(f"directory:{root}")) as store:
        Followed(store).settle(PORT)
        assert descriptors() > before
    wait_for(lambda: descriptors() <= before, "the descriptors to be closed")


def test_a_file_that_could_not_be_read_is_read_again_whatever_else_changes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without a free descriptor, for example; the kernel reports its change only once."""
    other = record(2)
    for each in (record(), other):
        store.put(each)
    following = Followed(store)
    following.settle(PORT, other.port_id)
    content = DirectoryNodes.content
    failures: list[str] = []

    def failing(nodes: DirectoryNodes, path: str) -> bytes | None:
        if path == port_path(PORT) and len(failures) < 2:
            failures.append(path)
            store.put(record(2, revision=5))  # another change, which can be read
            raise OSError(errno.EMFILE, "Too many open files")
        return content(nodes, path)

    monkeypatch.setattr(DirectoryNodes, "content", failing)
    (store.nodes.file(port_path(PORT))).write_bytes(record(revision=3).to_json())  # type: ignore[attr-defined]
    following.received.wait_for(PORT, record(revision=3))
    assert len(failures) == 2
