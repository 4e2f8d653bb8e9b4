"""The files of tests that take longest begin first."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from lab.rig.durations import NAME, Recorder, read

ROOT = Path(__file__).resolve().parents[1]
TEST = "import time\n\ndef test_one():\n    pass\n\ndef test_two():\n    pass\n"


def run_pytest(directory: Path, *arguments: str) -> list[str]:
    """The files that pytest has run, in the order in which it did."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "lab.rig.durations"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *arguments, directory],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT / "tools")},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.partition("::")[0] for line in done.stdout.splitlines() if "PASSED" in line]
    return [Path(name).name for name in dict.fromkeys(lines)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("test_a.py", "test_b.py", "test_c.py", "test_new.py"):
        (tmp_path / name).write_text(TEST)
    (tmp_path / NAME).write_text("   30 test_b.py\n   20 test_c.py\n   10 test_a.py\n")
    return tmp_path


def test_files_begin_in_the_order_of_their_durations_and_unknown_ones_first(
    directory: Path,
) -> None:
    before = read(directory / NAME)
    assert run_pytest(directory) == ["test_new.py", "test_b.py", "test_c.py", "test_a.py"]
    assert read(directory / NAME) == before


def test_what_ran_is_written_when_that_is_asked_for(directory: Path) -> None:
    run_pytest(directory, "--deselect", "test_b.py", "--update-durations")
    assert read(directory / NAME) == {
        "test_a.py": 0,
        "test_b.py": 30,
        "test_c.py": 0,
        "test_new.py": 0,
    }


def test_tests_that_run_alone_do_not_count_and_files_that_are_gone_are_forgotten(
    directory: Path,
) -> None:
    (directory / "test_c.py").unlink()
    recorder = Recorder(directory)
    others: dict[str, Literal[1]] = {"alone": 1}
    for keywords, seconds in (({}, 35.0), ({}, 5.4), (others, 100.0)):
        location = ("test_a.py", 1, "test_one")
        recorder.pytest_runtest_logreport(
            pytest.TestReport("", location, keywords, "passed", None, "call", duration=seconds)
        )
    recorder.pytest_sessionfinish()
    assert (directory / NAME).read_text() == "   40 test_a.py\n   30 test_b.py\n"


@pytest.mark.parametrize("kind", ["tests", "functional_tests"])
def test_most_files_that_are_listed_are_there(kind: str) -> None:
    """One that has got another name begins first; if many have: `--update-durations`."""
    listed = read(ROOT / kind / NAME)
    gone = [name for name in listed if not (ROOT / kind / name).exists()]
    assert len(gone) < len(listed) / 5
