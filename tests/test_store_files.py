"""Replacing a file: what lies where it is written first is neither followed nor kept."""

import os
import stat
from pathlib import Path

import pytest

from ovs_metadata.store.files import replace_file


def test_what_was_left_aside_gives_the_file_nothing_of_its_mode(tmp_path: Path) -> None:
    file, aside = tmp_path / "file", tmp_path / ".new"
    aside.write_bytes(b"left by an interrupted run, and longer than what follows")
    aside.chmod(0o644)
    replace_file(file, aside, b"secret")
    assert file.read_bytes() == b"secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_is_on_disk_before_it_has_its_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append(f"synced {path.name} of {path.stat().st_size}" if path.is_file() else path.name)
        sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        done.append(f"renamed {self.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    replace_file(tmp_path / "file", tmp_path / ".new", b"secret")
    assert done == ["synced .new of 6", "renamed .new", tmp_path.name]


def test_a_link_that_was_left_aside_is_not_followed(tmp_path: Path) -> None:
    file, aside, other = tmp_path / "file", tmp_path / ".new", tmp_path / "other"
    other.write_bytes(b"another's")
    aside.symlink_to(other)
    replace_file(file, aside, b"secret")
    assert other.read_bytes() == b"another's"
    assert not file.is_symlink()
    assert file.read_bytes() == b"secret"
