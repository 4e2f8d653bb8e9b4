"""Runs `ovs-metadata` many times and imports it only once: each run is a fork of a process.

For tests that run it dozens of times, when most of a second each would be spent on imports. The
process lives from entering the block to leaving it, and has no threads of its own, so a fork is
like a fresh start.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Self

TOOLS = Path(__file__).resolve().parents[2]


class ForkedCommand:
    """`ovs-metadata`, ready to run inside a network namespace."""

    def __init__(self, namespace: str, *modules: str) -> None:
        """Make it; `modules` are imported beforehand, besides the command's own."""
        self._command = [
            *("nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-m"),
            *("lab.rig.forked_command", *modules),
        ]
        self._process: Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it, and have it import everything."""
        self._process = Popen(
            self._command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TOOLS)},
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        if self._process and self._process.stdin and self._process.stdout:
            self._process.stdin.close()
            self._process.wait(10)
            self._process.stdout.close()

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Run it; returns exit status, and what it wrote to stdout and stderr."""
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise ValueError("it is not running")
        with tempfile.TemporaryDirectory() as directory:
            request = {"arguments": [str(each) for each in arguments], "directory": directory}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            status = int(self._process.stdout.readline())
            out, err = ((Path(directory) / name).read_text() for name in ("out", "err"))
            return status, out, err


def main() -> None:
    """Serve requests, a line of JSON each, until standard input ends."""
    import importlib  # noqa: PLC0415

    from ovs_metadata.cli.main import main as command  # noqa: PLC0415

    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            for name, descriptor in (("out", 1), ("err", 2)):
                path = Path(request["directory"]) / name
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
            command(request["arguments"], prog_name="ovs-metadata")
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
