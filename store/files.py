"""Files that survive a power failure, and that other users can neither read nor replace."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path


def check_directory(path: Path, users: Collection[int]) -> None:
    """Check that a directory belongs to one of these users, and that no other can write to it.

    Raises:
        PermissionError: it fails the check; the message says what to do.
        OSError: its status cannot be read.
    """
    status = path.stat()
    if status.st_uid not in users:
        raise PermissionError(
            f"directory {path} belongs to user id {status.st_uid}: chown it to user id "
            f"{os.geteuid()}"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise PermissionError(
            f"directory {path} can be written to by others (mode {mode:04o}): chmod 0700 it"
        )


def replace_file(file: Path, aside: Path, content: bytes) -> None:
    """Replace a file atomically and durably, with mode 0600.

    Args:
        file: the file to replace or create.
        aside: written first, then renamed; on the same file system, and used by no other writer. A
            file that an interrupted run left there is removed, not written to.
        content: the whole content.
    """
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(descriptor, "wb") as output:
        output.write(content)
        output.flush()
        os.fsync(descriptor)
    aside.replace(file)
    sync_directory(file.parent)


def append_to_file(file: Path, size: int, content: bytes) -> bool:
    """Append to a file durably if it has this size, and is no link; returns whether it has.

    Raises OSError if it cannot be written; then it may have a part of the content.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    with open(descriptor, "ab") as output:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return False
        output.write(content)
        output.flush()
        os.fsync(descriptor)
    return True


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
