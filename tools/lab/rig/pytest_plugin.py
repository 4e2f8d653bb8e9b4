"""What both kinds of tests ask of pytest: the same result here and there, now and later.

Properties (hypothesis) are tried with the same inputs in every run and without a deadline, as
hypothesis does in CI: what passes here passes there, and no change is blamed for what chance finds.
`make fuzz` looks with new inputs, and more of them.

Nothing of the caller's environment that changes an output reaches a test: widths, colours,
language, time zone, and the settings of OpenStack's and Open vSwitch's commands. Proxies stay,
since some functional tests install from PyPI, but are not for this machine.

Coverage does not look while a property is tried, or all there is: tracing takes longer than the
test, and a line that only chance reaches does not count as reached. It does when it records which
test executes each line, for `make mutants`.

What collection has made stays until the end, and is left out of garbage collection: each full one
would look at a million objects.

Byte code is kept, whatever the caller wants: functional tests start hundreds of processes, and
each of them would compile the whole product.
"""

import gc
import os
import sys
import time
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

_NAMES = {
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "LANG", "LANGUAGE"),
    "PYTHONDONTWRITEBYTECODE",
}
_PREFIXES = ("LC_", "OS_", "OVS_", "OVN_")

THIS_MACHINE = "localhost,127.0.0.1,::1,169.254.169.254"

settings.register_profile("fuzz", settings.get_profile("ci"), derandomize=False, max_examples=1000)
settings.load_profile("ci")
sys.dont_write_bytecode = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what coverage is not to measure, by pytest-cov's marker."""
    if not config.getoption("cov_source", None) or config.getoption("cov_context", None):
        return
    for item in items:
        if item.get_closest_marker("hypothesis") or item.get_closest_marker("exhaustive"):
            item.add_marker("no_cover")


def pytest_collection_finish() -> None:
    """Leave modules and tests out of garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is left out: what a test needs is to be installed there."""
    report = yield
    if report.skipped and "CI" in os.environ:
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {report.longreprtext}"
    return report


@pytest.fixture(scope="session", autouse=True)
def own_environment() -> Iterator[None]:
    """Have the tests, and the processes they start, see an environment that is always the same."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name in _NAMES or name.startswith(_PREFIXES):
                patch.delenv(name)
        for name, value in {"LC_ALL": "C.UTF-8", "TZ": "UTC"}.items():
            patch.setenv(name, value)
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, THIS_MACHINE)
        time.tzset()
        yield
    time.tzset()
