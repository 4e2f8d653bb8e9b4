"""Tests see the same environment and the same inputs for every user."""

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from lab.rig.pytest_plugin import pytest_collection_modifyitems

TESTS = Path(__file__).parent

CALLER = {
    "COLUMNS": "40",
    "LINES": "3",
    "NO_COLOR": "1",
    "LANG": "de_DE.UTF-8",
    "LC_NUMERIC": "de_DE.UTF-8",
    "TZ": "Asia/Kathmandu",
    "OS_CLOUD": "production",
    "OVS_RUNDIR": "/nowhere",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def test_nothing_that_changes_an_output_is_the_callers() -> None:
    kept = {name: value for name, value in os.environ.items() if name in CALLER}
    assert kept.keys() <= {"TZ", "HTTP_PROXY"}
    assert datetime.now().astimezone().utcoffset() == timedelta(0)
    assert "127.0.0.1" in os.environ["no_proxy"]


def test_processes_that_tests_start_keep_their_byte_code(tmp_path: Path) -> None:
    (tmp_path / "imported.py").touch()
    subprocess.run([sys.executable, "-c", "import imported"], cwd=tmp_path, check=True)
    assert list(tmp_path.glob("__pycache__/imported.*.pyc"))
    assert not sys.dont_write_bytecode


def test_it_is_so_whatever_the_caller_has_set() -> None:
    these = (
        test_nothing_that_changes_an_output_is_the_callers,
        test_processes_that_tests_start_keep_their_byte_code,
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *(f"{__file__}::{each.__name__}" for each in these)],
        cwd=TESTS.parent,
        env={**os.environ, **CALLER},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_properties_are_tried_alike_in_every_run_and_without_a_deadline() -> None:
    assert settings.default is not None
    assert settings.default.derandomize
    assert settings.default.deadline is None


def test_a_long_search_takes_inputs_of_its_own() -> None:
    profile = settings.get_profile("fuzz")
    assert not profile.derandomize
    assert profile.deadline is None
    assert profile.max_examples > settings.get_profile("ci").max_examples


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 error"), ("", "1 skipped")])
def test_in_ci_a_test_that_is_left_out_is_an_error(ci: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["lab.rig.pytest_plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n\n@pytest.mark.skip(reason='why')\ndef test_it() -> None:\n    pass\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"PYTHONPATH": str(TESTS.parent / "tools")} | ({"CI": ci} if ci else {})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout
    assert "why" in done.stdout or not ci


@pytest.mark.parametrize(
    ("options", "mark", "measured"),
    [
        ({"cov_source": [True]}, "hypothesis", False),
        ({"cov_source": [True]}, "exhaustive", False),
        ({"cov_source": [True]}, "alone", True),
        ({"cov_source": [True], "cov_context": "test"}, "hypothesis", True),
        ({}, "hypothesis", True),
    ],
)
def test_coverage_does_not_look_while_a_property_is_tried(
    options: dict[str, Any], mark: str, measured: bool
) -> None:
    marks = [mark]
    item: Any = SimpleNamespace(
        get_closest_marker=lambda name: name in marks, add_marker=marks.append
    )
    config: Any = SimpleNamespace(getoption=options.get)
    pytest_collection_modifyitems(config, [item])
    assert ("no_cover" not in marks) is measured
