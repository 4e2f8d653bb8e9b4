"""The order of the files of tests: the one that takes longest begins first.

pytest-xdist hands out whole files. A long one that begins last keeps one process busy while the
others have nothing to do any more. So each directory of tests has a `durations.txt`, a line for
each file with its seconds, and a file that is not listed there begins before all others.

    .venv/bin/pytest DIRECTORY --update-durations

writes what the files that ran have taken. Only their order counts, so now and then is enough.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

NAME = "durations.txt"

UNKNOWN = 24 * 3600
"""Seconds that a file is taken to need until it is known."""


def read(path: Path) -> dict[str, int]:
    """Seconds by the name of the file, as `write` left them; nothing if there is no such file."""
    if not path.exists():
        return {}
    lines = (line.split() for line in path.read_text().splitlines())
    return {name: int(seconds) for seconds, name in lines}


def write(path: Path, seconds: Mapping[str, float]) -> None:
    """Write what these files have taken; others keep what they had, those that are gone go."""
    known = {**read(path), **{name: round(value) for name, value in seconds.items()}}
    there = {name: value for name, value in known.items() if (path.parent / name).exists()}
    ordered = sorted(there.items(), key=lambda each: (-each[1], each[0]))
    path.write_text("".join(f"{value:5} {name}\n" for name, value in ordered))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-durations`."""
    parser.addoption(
        "--update-durations",
        action="store_true",
        help=f"write what each file takes into the {NAME} beside it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Record what tests take, if that is asked for."""
    # The processes that xdist starts report to the one that has started them, which writes.
    if config.getoption("--update-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config.rootpath))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in order."""
    known = {directory: read(directory / NAME) for directory in {i.path.parent for i in items}}
    # The order is stable: the tests of a file stay together, as they are.
    items.sort(key=lambda item: -known[item.path.parent].get(item.path.name, UNKNOWN))


class Recorder:
    """Adds up what the tests of each file take."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seconds: defaultdict[Path, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test, or what it needed before and after."""
        # Who runs alone is not handed out.
        if "alone" not in report.keywords:
            self._seconds[self._root / report.location[0]] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Write what was counted."""
        for directory in {path.parent for path in self._seconds}:
            here = {p.name: s for p, s in self._seconds.items() if p.parent == directory}
            write(directory / NAME, here)
