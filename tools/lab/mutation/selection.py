"""A plugin of pytest for `lab.mutation`: which tests run, in which order, and how long they take.

The environment has the names of files. `MUTATION_TESTS` has the ids of the tests to run, in
their order. `MUTATION_SECONDS` gets the seconds of each test that passes, and `MUTATION_FAILED` the
ids of the tests and files that fail. All are JSON.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

TESTS, SECONDS, FAILED = NAMES = "MUTATION_TESTS", "MUTATION_SECONDS", "MUTATION_FAILED"


def selected(there: dict[str, pytest.Item], wanted: list[str]) -> list[pytest.Item]:
    """Those tests that are wanted, in the order in which they are."""
    return [there[name] for name in wanted if name in there]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are not selected."""
    if TESTS in os.environ:
        wanted = json.loads(Path(os.environ[TESTS]).read_text())
        chosen = selected({item.nodeid: item for item in items}, wanted)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


class _Recorder:
    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration
        if report.failed:
            self._failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        failed = set(self._failed)
        passed = {name: each for name, each in self._seconds.items() if name not in failed}
        for name, value in ((SECONDS, passed), (FAILED, self._failed)):
            if name in os.environ:
                Path(os.environ[name]).write_text(json.dumps(value))


def pytest_configure(config: pytest.Config) -> None:
    """Record what happens, in the process that all others report to."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder())
