"""Things that are slow to make and worth keeping between runs: where they lie, and made once.

A virtual environment cannot be built elsewhere and renamed into place (its scripts hold absolute
paths), so a stamp file, written last, marks a finished directory, and a lock makes a second
run wait for the first instead of building over it. No state in memory; the lock is released by
the kernel even when its holder is killed.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STAMP = "complete"


def cache_directory() -> Path:
    """Where this project keeps such things: outside the source tree, per user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ovs-metadata"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file at `path`, waiting for it; the file is left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_once(directory: Path, build: Callable[[Path], None]) -> Path:
    """Return `directory`, having called `build` with it unless an earlier call finished.

    What an interrupted or failed build left is removed before the next one; a failure is
    the caller's to see, whatever `build` raised.
    """
    with locked(directory.with_name(directory.name + ".lock")):
        stamp = directory / STAMP
        if not stamp.exists():
            if directory.exists():
                shutil.rmtree(directory)
            directory.mkdir(parents=True)
            build(directory)
            stamp.touch()
    return directory
