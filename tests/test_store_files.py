"""Replacing a file: what lies where it is written first is neither followed nor kept."""

import stat
from pathlib import Path

from ovs_metadata.store.files import replace_file


def test_what_was_left_aside_gives_the_file_nothing_of_its_mode(tmp_path: Path) -> None:
    file, aside = tmp_path / "file", tmp_path / ".new"
    aside.write_bytes(b"left by an interrupted run, and longer than what follows")
    aside.chmod(0o644)
    replace_file(file, aside, b"secret")
    assert file.read_bytes() == b"secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_that_was_left_aside_is_not_followed(tmp_path: Path) -> None:
    file, aside, other = tmp_path / "file", tmp_path / ".new", tmp_path / "other"
    other.write_bytes(b"another's")
    aside.symlink_to(other)
    replace_file(file, aside, b"secret")
    assert other.read_bytes() == b"another's"
    assert not file.is_symlink()
    assert file.read_bytes() == b"secret"
