"""A lock that one process on the host can hold at a time."""

import fcntl
from pathlib import Path
from typing import IO


class AlreadyRunning(Exception):
    """Another process holds the lock; the message names it."""


def take_lock(path: Path, who: str) -> IO[bytes]:
    """Take the lock; it is held for as long as the returned file is open.

    Raises:
        AlreadyRunning: another process holds it.
        OSError: the lock file cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise AlreadyRunning(f"another {who} is running on this host: it holds {path}") from None
    return file
