"""Files that the agent reads again only when they have changed.

A look at the configuration is frequent, and a file of authorities may have hundreds of KB. Any one
thread at a time.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

SETTLED = 2.0
"""Seconds after its last change from when on a file is not read again: a file system's clock is
coarse, and two changes at once look like one."""

Signature = tuple[int, int, int, int, int]


def signature(path: Path) -> Signature | None:
    """What changes when a file does; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class FileReader(Generic[T]):
    """Reads files by a function, whose exceptions it passes on."""

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._known: dict[Path, tuple[Signature, T]] = {}

    def __call__(self, path: Path) -> T:
        """The content of a file as it is now."""
        seen = signature(path)
        known = self._known.get(path)
        if known and known[0] == seen:
            return known[1]
        self._known.pop(path, None)
        content = self._read(path)
        if seen and _is_settled(seen):
            self._known[path] = seen, content
        return content


def _is_settled(seen: Signature) -> bool:
    return abs(time.time() - seen[3] / 1e9) > SETTLED
