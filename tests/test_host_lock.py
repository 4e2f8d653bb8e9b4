"""Only its owner can keep a process from its lock."""

import os
import stat
from pathlib import Path

import pytest

from ovs_metadata.host.lock import AlreadyRunning, take_lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "agent.lock"


def test_one_holds_it_at_a_time(path: Path) -> None:
    with take_lock(path, "agent"), pytest.raises(AlreadyRunning, match="another agent is running"):
        take_lock(path, "agent")
    take_lock(path, "agent").close()


def test_directory_and_file_are_the_owners_alone(path: Path) -> None:
    with take_lock(path, "agent"):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_of_an_earlier_version_is_closed_to_others(path: Path) -> None:
    path.parent.mkdir()
    path.touch(mode=0o644)
    with take_lock(path, "agent"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(path: Path, mode: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)
    with pytest.raises(PermissionError, match=rf"mode {mode:04o}\): chmod 0700 it"):
        take_lock(path, "agent")


def test_a_directory_that_others_can_enter_is_no_way_to_the_lock(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    take_lock(path, "agent").close()
    assert not path.stat().st_mode & 0o077


def test_a_link_in_the_locks_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    target = tmp_path / "elsewhere"
    path.symlink_to(target)
    with pytest.raises(OSError, match=r"lock file .*agent\.lock"):
        take_lock(path, "agent")
    assert not target.exists()


def test_what_is_no_file_is_refused(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(PermissionError, match="is no file"):
        take_lock(path, "agent")


@pytest.mark.parametrize("whose", ["directory", "file"])
def test_files_of_another_user_are_refused(
    path: Path, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    path.touch()
    mine = os.geteuid()
    # The directory is looked at first.
    users = iter([mine + 1] * 2 if whose == "directory" else [mine, mine + 1])
    monkeypatch.setattr(os, "geteuid", lambda: next(users))
    with pytest.raises(PermissionError, match=f"{whose} .* belongs to user id {mine}"):
        take_lock(path, "agent")
