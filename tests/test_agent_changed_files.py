"""Files are read again only when they have changed."""

import os
import time
from pathlib import Path

import pytest

from ovs_metadata.agent.changed_files import FileReader

LONG_AGO = (1000, 1000)


class Reading:
    """A reader, and how often it has read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.times = 0
        self.reader = FileReader(self._read)

    def _read(self, path: Path) -> str:
        self.times += 1
        return path.read_text()

    def write(self, text: str) -> None:
        self.path.write_text(text)
        os.utime(self.path, LONG_AGO)

    def content(self) -> str:
        return self.reader(self.path)


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path / "file")


def test_a_file_is_read_once(reading: Reading) -> None:
    reading.write("one")
    assert [reading.content(), reading.content(), reading.times] == ["one", "one", 1]


def test_another_content_of_the_same_length_and_time_is_noticed(reading: Reading) -> None:
    reading.write("one")
    assert reading.content() == "one"
    replacement = reading.path.with_name("replacement")
    replacement.write_text("two")
    os.utime(replacement, LONG_AGO)
    replacement.replace(reading.path)
    assert reading.content() == "two"


def test_a_file_that_has_just_changed_is_read_every_time(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading.write("half")
    monkeypatch.setattr(time, "time", lambda: LONG_AGO[0] + 1.0)
    assert [reading.content(), reading.content(), reading.times] == ["half", "half", 2]


def test_a_removed_file_is_an_error_and_is_read_when_it_is_there_again(reading: Reading) -> None:
    reading.write("one")
    reading.content()
    reading.path.unlink()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            reading.content()
    reading.write("one")
    assert (reading.content(), reading.times) == ("one", 4)
