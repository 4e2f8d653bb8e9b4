"""The boot storm benchmark, with few guests: it works, no guest sees an error, nothing remains."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.rig.hypervisor import ROOT
from lab.rig.process import LabError
from lab.upstream.cloud_init import BOOT_PATHS
from lab.upstream.neutron_install import install_neutron

GUESTS = 5


@pytest.fixture(scope="module", autouse=True)
def _neutron() -> None:
    """Install it outside the test's time limit."""
    install_neutron()


def _run(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the benchmark; returns its pid and its figures.

    Raises:
        LabError: it ended with an error.
    """
    path = os.pathsep.join([str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.boot_storm", "--format", "json", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise LabError(f"the benchmark exited {process.returncode}: {output}")
    return process.pid, json.loads(output)


@pytest.mark.timeout(180, func_only=True)
def test_a_small_storm_is_answered_by_either_service() -> None:
    pid, measured = _run("--guests", str(GUESTS), "--verbose")
    assert [(each["service"], each["upstream"]) for each in measured] == [
        (service, upstream)
        for service in ("neutron", "ours")
        for upstream in ("uncached", "cached")
    ]
    for each in measured:
        assert each["errors"] == 0, each["first_errors"]
        assert each["requests"] == GUESTS * len(BOOT_PATHS)
        # No guest can be faster than the upstream.
        assert each["last_guest"] >= each["own_time"]
        assert each["cpu"] > 0
    assert not [name for name in Path("/run/netns").iterdir() if name.name.startswith(f"bs{pid}-")]
