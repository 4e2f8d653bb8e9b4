"""What the demonstration shows is right, and fits a screen."""

import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[1] / "tools"
LINES = 40


def test_an_ovn_hypervisor_in_one_screen() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "lab.demo", "--ovn", "--once"],
        cwd=TOOLS,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.count("demo-one OK") == 5
    assert shown.stdout.count("no answer OK") == 1
    assert len(shown.stdout.splitlines()) <= LINES
