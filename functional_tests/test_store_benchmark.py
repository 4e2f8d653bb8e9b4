"""The benchmark of the store goes on working."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_tiny_run_has_all_figures() -> None:
    small = ["--agents", "3", "--ports", "4", "--records", "300", "--writes", "10"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.store", *small, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "tools"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # Three documents besides the ports.
    assert found["watches"] == 3 * (4 + 3)
    assert found["writes"] == 10
    assert 0 < found["write_median"] <= found["known_largest"]
    assert found["known_median"] <= found["known_p99"] <= found["known_largest"]
