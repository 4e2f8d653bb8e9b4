"""What functional tests share: real components, each started once."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_fixtures import (
    echoing,
    flows_host,
    hypervisor,
    lab_hypervisor,
    on_zookeeper,
    pytest_runtest_makereport,
    serving,
    two_workers,
)
from nova_fixtures import nova

from lab.rig import previous_release
from lab.rig.openvswitch import OpenVSwitch
from lab.rig.zookeeper import ZooKeeper

__all__ = [
    "echoing",
    "flows_host",
    "hypervisor",
    "lab_hypervisor",
    "nova",
    "on_zookeeper",
    "pytest_runtest_makereport",
    "serving",
    "two_workers",
]

pytest_plugins = ["lab.rig.durations", "lab.rig.pytest_plugin"]

SYSTEM_TESTS = ["test_container.py", "test_ansible_role.py", "test_rpm.py"]
"""They take minutes, and are run by `tools/test system …`, which names them."""

_LEFT_OUT = [] if previous_release.is_in_history() else ["test_previous_release.py"]

collect_ignore = [*_LEFT_OUT, *([] if "OVS_METADATA_SYSTEM" in os.environ else SYSTEM_TESTS)]


def pytest_report_header() -> list[str]:
    """Say what this run leaves out."""
    commit = previous_release.PREVIOUS[:7]
    return [f"left out: {name} needs commit {commit} (git fetch --unshallow)" for name in _LEFT_OUT]


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[ZooKeeper]:
    """A real ZooKeeper server; a test that ends it starts it again."""
    with ZooKeeper() as server:
        yield server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[OpenVSwitch]:
    """An ovsdb-server without ovs-vswitchd, with a bridge in it. A test may stop or kill it."""
    switch = OpenVSwitch(tmp_path / "ovs", "")
    switch.start_database("br-int")
    try:
        yield switch
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(switch.ovsdb_pid, signal.SIGCONT)
        switch.stop()
