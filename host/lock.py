"""A lock that one process on the host can hold at a time.

No other user can block it: only the owner can open the file and enter its directory. Otherwise
another user could lock the file, or replace it by another one.
"""

import fcntl
import os
import stat
from pathlib import Path
from typing import IO

from ovs_metadata.store.files import check_directory


class AlreadyRunning(Exception):
    """Another process holds the lock; the message names it."""


def take_lock(path: Path, who: str) -> IO[bytes]:
    """Take the lock; it is held for as long as the returned file is open.

    The directory is made if it is not there, with mode 0700.

    Raises:
        AlreadyRunning: another process holds it.
        OSError: the lock file cannot be made, or others can reach it; the message says what to do.
    """
    make_private_directory(path.parent)
    # Not through a link: another user may have chosen its target.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise OSError(error.errno, f"lock file {path}: {error.strerror}") from None
    try:
        _check_file(path, os.fstat(descriptor))
        os.fchmod(descriptor, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning(f"another {who} is running on this host: it holds {path}") from None
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "r+b")


def make_private_directory(path: Path) -> None:
    """Make a directory with mode 0700, or check that an existing one is safe to use.

    Raises:
        PermissionError: another user owns it, or others can write to it.
        OSError: it cannot be made, or is not a directory.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        check_directory(path, {os.geteuid()})
    except PermissionError as error:
        raise PermissionError(f"{error}, or set [agent] state_dir to another one") from None


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(f"lock file {path} is no file: remove it")
    if status.st_uid != os.geteuid():
        raise PermissionError(
            f"lock file {path} belongs to user id {status.st_uid}: see who that is, and remove it"
        )
