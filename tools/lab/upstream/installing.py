"""Installing the real components into the cache: where, with what output, in which environment.

Each is a directory that `lab.upstream.cache` makes once. What the commands of an installation print
is in a log beside it, for a failed installation is removed and its log must not be. No state is
kept in memory.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lab.rig.process import LabError
from lab.upstream.cache import cache_directory


def installation_directory(name: str, made_from: Iterable[str]) -> Path:
    """Where something belongs in the cache: another directory for each list it is made from."""
    key = "\n".join([*made_from, sys.version])
    return cache_directory() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


class Installer:
    """Runs the commands that install one thing into `directory`."""

    def __init__(self, what: str, directory: Path, takes: str) -> None:
        """Make it, and say on stderr what is installed and how long it `takes`."""
        self._what = what
        self._started = time.monotonic()
        self._log = directory.with_name(f"{directory.name}.log")
        self._log.unlink(missing_ok=True)
        tell(f"Installing {what}, once, in {takes} or so; log: {self._log}")

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Run a command; `env` is added to its environment.

        Raises:
            LabError: it failed; names the log.
        """
        words = [str(word) for word in command]
        # Ours would lead its pip and its Python astray.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with self._log.open("ab") as output:
            output.write(f"$ {' '.join(words)}\n".encode())
            output.flush()
            status = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(env or {})},
                check=False,
            ).returncode
        if status:
            raise LabError(f"installing {self._what}: {words[0]} exited {status}; see {self._log}")

    def make_venv(self, venv: Path, *requirements: str, python: Path | None = None) -> None:
        """Make a virtual environment with these in it, of our Python if no other is given.

        Raises:
            LabError: it failed; names the log.
        """
        self.run(python or sys.executable, "-m", "venv", venv)
        self.run(venv / "bin/pip", "install", *requirements)

    def done(self) -> None:
        """Say that it is installed."""
        tell(f"{self._what} is installed after {time.monotonic() - self._started:.0f} s")


def tell(line: str) -> None:
    """Say something on stderr."""
    print(line, file=sys.stderr, flush=True)


def main(install: Callable[[], Path]) -> int:
    """Install, and print where; 1 and one line on stderr when that fails."""
    try:
        print(install())
    except LabError as error:
        tell(str(error))
        return 1
    return 0
