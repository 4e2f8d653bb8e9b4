"""Why the flow controller keeps eventlet: os-ken's native threads still have their faults.

When this fails, os-ken has mended one: look at docs/ryu.md, "Without eventlet", again.
"""

import subprocess
import sys
from pathlib import Path

REPRODUCTION = Path(__file__).parents[1] / "tools/reproductions/os_ken_native_threads.py"


def test_native_threads_still_have_their_faults() -> None:
    done = subprocess.run(
        [sys.executable, REPRODUCTION], capture_output=True, text=True, timeout=60, check=False
    )
    faults = [line.partition("  ")[0] for line in done.stdout.splitlines()]
    assert faults == ["FAULT"] * 3, done.stdout + done.stderr
    assert done.returncode == 0
