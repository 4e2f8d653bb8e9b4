"""The lines that tests reach, measured by assignments in front of statements."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from coverage import CoverageData

from lab.coverage_report import measured
from lab.rig.reached_lines import with_probes

ROOT = Path(__file__).parents[1]

MODULE = b'''"""A docstring, line 1."""

from __future__ import annotations

import functools


@functools.cache
def of(value):
    """Line 10."""
    if value:
        return (
            value
        )
    elif value is None:
        return 1
    else:
        return 2


class Thing:
    """Line 22."""

    name = "thing"

    def never(self):
        return self


try:
    of(0)[0]
except TypeError:
    caught = True
else:
    caught = False
finally:
    done = True
for number in ():
    print(number)
match of(3):
    case 2:
        print(2)
    case _:
        other = lambda: print(3)
'''

REACHED = {3, 5, 8, 9, 11, 12, 15, 18, 21, 24, 26, 30, 31, 32, 33, 37, 38, 40, 43, 44}


def test_each_statement_that_is_executed_is_reached_and_no_other() -> None:
    array = bytearray(MODULE.count(b"\n") + 2)
    names: dict[str, Any] = {"@reached": array}
    code = compile(with_probes(MODULE, "module.py"), "module.py", "exec", dont_inherit=True)
    exec(code, names)  # noqa: S102
    assert {number for number, reached in enumerate(array) if reached} == REACHED
    assert (names["__doc__"], names["of"].__doc__) == ("A docstring, line 1.", "Line 10.")


TESTS = """
import os
from pathlib import Path

import pytest
from ovs_metadata.store.url import DirectoryLocation, parse_store_url


def test_it():
    assert parse_store_url("directory:/here") == DirectoryLocation(Path("/here"))


@pytest.mark.exhaustive
def test_all_there_is():
    assert parse_store_url("zookeeper://here").hosts


def test_nothing_of_the_caller():
    assert "REACHED_LINES" not in os.environ
"""

CONFTEST = ROOT / "tests" / "conftest.py"


def test_a_run_leaves_what_it_reached_except_by_chance(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = exhaustive\n")
    environment = {"REACHED_LINES": "data", "PYTHONPATH": str(ROOT / "tools")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    (file,) = tmp_path.glob("data.*")
    data = CoverageData(str(file))
    data.read()
    url = ROOT / "store" / "url.py"
    reached = {url.read_text().splitlines()[number - 1] for number in data.lines(str(url)) or ()}
    assert "        return _directory(url, rest)" in reached
    assert not [line for line in reached if "return _zookeeper(" in line]

    report = measured(tmp_path / "data")
    assert 0 < report["store/url.py"].executed < report["store/url.py"].lines
    assert report["agent/main.py"].executed == 0
