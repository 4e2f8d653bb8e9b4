"""Announcements in a directory: the lock that only the living hold."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ovs_metadata.store.directory_announcement import DirectoryAnnouncement, is_alive

READERS = 4
LOOKS = 2000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hv-1"


def test_living_agents_are_distinguished_from_dead_ones(file: Path) -> None:
    assert not is_alive(file)
    assert not is_alive(file / "below nothing")
    announcements = [DirectoryAnnouncement(file, lambda _data: None) for _ in range(2)]
    assert is_alive(file)
    announcements[0].close()
    assert is_alive(file), "the next one lives"
    announcements[1].close()
    assert not is_alive(file)


def test_readers_at_once_do_not_take_the_dead_for_living(file: Path) -> None:
    DirectoryAnnouncement(file, lambda _data: None).close()

    def look(_reader: int) -> bool:
        return any(is_alive(file) for _ in range(LOOKS))

    with ThreadPoolExecutor(READERS) as pool:
        assert not any(pool.map(look, range(READERS)))
