"""Runs `ovs-metadata cleanup …-namespaces` on namespaces whose names are in a test's directory."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.rig.hypervisor import Hypervisor

DIFFERENT = 5
"""Exit status of a dry run that found something to do."""


def cleanup(
    bridge: Hypervisor,
    what: str,
    directory: Path,
    *arguments: str,
    status: int = 0,
    within: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `cleanup WHAT`, with this exit status; `within` is a command that runs it elsewhere."""
    program = Path(sys.executable).parent / "ovs-metadata"
    done = subprocess.run(
        [
            *(*within, str(program), "--config", str(bridge.config), "cleanup", what),
            *("--directory", str(directory), "--format", "json", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def results(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """The report of each namespace, and its reason."""
    return {
        each["name"]: (each["result"], each["detail"])
        for each in json.loads(done.stdout)["namespaces"]
    }
