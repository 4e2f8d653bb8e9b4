"""A copy of the tree in which unit tests run, with a mutant or without."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.mutation import selection
from lab.mutation.candidates import Mutant

ROOT = Path(__file__).resolve().parents[3]

START = 40.0
"""Seconds that pytest may take to begin."""

PATIENCE = 10
"""Tests may take so many times what they took when they were measured."""

_versions = itertools.count(1)


@dataclass(frozen=True)
class Result:
    """Whether all tests passed in time, and the tests and files that failed."""

    passed: bool
    failed: tuple[str, ...] = ()


class Tree:
    """A copy of the tree, at `top`."""

    def __init__(self, top: Path, source: Path = ROOT) -> None:
        """Copy what git knows and what is new."""
        self.top = top
        git = ("git", "-C", source, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        listed = subprocess.run(git, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            if (source / name).is_symlink() or (source / name).exists():
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, top / name, follow_symlinks=False)
        (top / "build").mkdir(parents=True)
        # Some tests ask git which files there are.
        subprocess.run(("git", "init", "-q", top), check=True)
        subprocess.run(("git", "-C", top, "add", "-A"), check=True)

    @contextlib.contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """Have the mutant in the tree."""
        self._write(mutant.path, mutant.text)
        try:
            yield
        finally:
            self._write(mutant.path, mutant.original)

    def _write(self, path: Path, text: str) -> None:
        (self.top / path).write_text(text)
        # Python takes byte code for valid if the file has the same size and the same second.
        when = 1_000_000_000 + next(_versions)
        os.utime(self.top / path, (when, when))

    def run(self, tests: Sequence[str], seconds: float, longest: float) -> Result:
        """Run these tests in their order until one fails.

        They usually take `seconds`, and the one that takes most `longest`.
        """
        files = sorted({test.partition("::")[0] for test in tests})
        arguments = ["-x", f"--timeout={START / 2 + PATIENCE * longest:.0f}", *files]
        with tempfile.TemporaryDirectory() as directory:
            wanted, failed = Path(directory, "tests"), Path(directory, "failed")
            wanted.write_text(json.dumps(tests))
            names = {selection.TESTS: str(wanted), selection.FAILED: str(failed)}
            status = self.pytest(arguments, names, START + PATIENCE * seconds)
            why = json.loads(failed.read_text()) if failed.exists() else []
        return Result(status in {0, 5}, tuple(why))

    def pytest(
        self, arguments: Sequence[str], names: dict[str, str], timeout: float | None = None
    ) -> int | None:
        """Run pytest in the tree; the exit status, or None if it takes more than `timeout` s."""
        plugins = ("-p", "lab.mutation.selection", "-p", "no:cacheprovider", "-q", "--no-summary")
        path = {"PYTHONPATH": f"{self.top}/src:{self.top}/tools"}
        # These tests may be among those that run: their own runs have their own files.
        inherited = {name: each for name, each in os.environ.items() if name not in selection.NAMES}
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-m", "not alone", *plugins, *arguments],
            cwd=self.top,
            env=inherited | path | names,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
