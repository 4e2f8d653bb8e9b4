"""A lock that one process on the host can hold at a time."""

import fcntl
import os
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


def lock_holder(path: Path) -> int | None:
    """Return the pid of the process that holds the lock, None if nobody does.

    Read from /proc/locks (proc(5)), so that looking cannot be in the way of who wants it.

    Raises:
        OSError: the file cannot be looked at, for want of permission for example.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    device, inode = status.st_dev, status.st_ino
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    for line in Path("/proc/locks").read_text().splitlines():
        _number, *fields = line.split()
        # A line with an arrow is one that waits for the lock above it.
        if fields[0] == "FLOCK" and fields[4] == wanted:
            return int(fields[3])
    return None
