"""`benchmarks/proxy` in a form so short that its figures mean nothing: it runs, and cleans up."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def run_benchmark(directory: Path, *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.proxy", "--format", "json"),
            *("--rounds", "1", "--duration", "0.2", "--connections", "2", *arguments),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools"), "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize("upstream", ["plain", "delay", "https"])
def test_every_target_relays_every_request(upstream: str) -> None:
    # Not pytest's: a UNIX socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="bt-") as name:
        rows = run_benchmark(Path(name), "--upstreams", upstream)
        left = list(Path(name).iterdir())
    targets = {"worker", "confirmed", "workers-2", "haproxy", "neutron"}
    if upstream != "https":
        targets.add("upstream")
    assert {(row["target"], row["keep_alive"]) for row in rows} == {
        (target, keep_alive) for target in targets for keep_alive in (False, True)
    }
    costs = {(row["target"], row["keep_alive"]): row["cpu"] for row in rows}
    for row in rows:
        assert row["cpu_to_haproxy"] == row["cpu"] / costs["haproxy", row["keep_alive"]]
        assert row["cpu_to_neutron"] == row["cpu"] / costs["neutron", row["keep_alive"]]
        assert row["errors"] == 0, row
        assert row["requests"] > 0, row
        assert row["rss"] > 0, row
        assert row["p50"] >= (20 if upstream == "delay" else 0), row
    # Its files are there as long as the processes that use them.
    assert not left
