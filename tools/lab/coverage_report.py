"""What part of each package's lines the unit tests have reached, and whether that is enough.

    python -m lab.coverage_report

reads what `pytest tests --cov` has left, prints a line for each package, and for those below the
floor their files. The exit status is 1 if there are any. Processes that tests start are not
measured: what is only seen by running the whole is for the functional tests.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).resolve().parents[2]
FLOOR = 85
"""Percent of each package's lines."""


@dataclass(frozen=True)
class Reached:
    """Lines that can be executed, and how many of them were."""

    lines: int
    executed: int

    @property
    def percent(self) -> float:
        """How many of a hundred; all, if there are none."""
        return 100 * self.executed / self.lines if self.lines else 100.0


def by_package(files: Mapping[str, Reached]) -> dict[str, Reached]:
    """The sums of the files' packages; files are named by their paths below the tree."""
    sums: dict[str, Reached] = {}
    for name, reached in files.items():
        package = name.split("/")[0]
        before = sums.get(package, Reached(0, 0))
        lines, executed = before.lines + reached.lines, before.executed + reached.executed
        sums[package] = Reached(lines, executed)
    return sums


def report(files: Mapping[str, Reached]) -> tuple[list[str], bool]:
    """The lines to print, and whether every package is at the floor or above it.

    Raises:
        SystemExit: there are no files.
    """
    if not files:
        sys.exit("nothing was measured: run `pytest tests --cov` first, from the top of the tree")
    packages = by_package(files)
    low = [package for package, reached in packages.items() if reached.percent < FLOOR]
    lines = [_line(package, reached) for package, reached in sorted(packages.items())]
    for package in sorted(low):
        lines.append(f"{package} is below {FLOOR} %:")
        inside = [(name, each) for name, each in files.items() if name.split("/")[0] == package]
        inside.sort(key=lambda each: each[1].executed - each[1].lines)
        lines += [f"  {_line(*each)}" for each in inside[:10]]
    return lines, not low


def _line(name: str, reached: Reached) -> str:
    return f"{reached.percent:5.1f} % of {reached.lines:5} lines  {name}"


def measured() -> dict[str, Reached]:
    """What was measured of every file."""
    data = str(ROOT / "build" / "coverage")
    coverage = Coverage(data_file=data, config_file=str(ROOT / "pyproject.toml"))
    coverage.load()
    files = {}
    for name in coverage.get_data().measured_files():
        _, lines, _, missing, _ = coverage.analysis2(name)
        path = str(Path(name).relative_to(ROOT))
        files[path] = Reached(len(lines), len(lines) - len(missing))
    return files


def main() -> None:
    """Print the report."""
    lines, enough = report(measured())
    print("\n".join(lines))
    sys.exit(not enough)


if __name__ == "__main__":
    main()
