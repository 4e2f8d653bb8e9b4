"""Announcements in a directory: beside the entry's file, a lock that only the living hold.

The kernel lets go of the lock with its holder, however that ends. No threads.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from ovs_metadata.store import layout
from ovs_metadata.store.errors import StoreError

LOG = logging.getLogger(__name__)


class DirectoryAnnouncement:
    """An `Announcement`: holds the lock from construction to `close`.

    Args:
        file: the entry; its directory must be there.
        write: replaces the entry's content.
    """

    def __init__(self, file: Path, write: Callable[[bytes], None]) -> None:
        self._file = file
        self._write = write
        # Shared, so that an entry has room for the next agent while the last one is still ending.
        self._lock: int | None = os.open(_lock_of(file), os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def update(self, data: bytes) -> None:
        """See `Announcement`."""
        try:
            self._write(data)
        except StoreError as error:
            LOG.warning("%s is not up to date: %s", self._file, error)

    def close(self) -> None:
        """See `Announcement`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def is_alive(file: Path) -> bool:
    """Whether somebody who announced this file lives; raises OSError when that cannot be found."""
    with contextlib.ExitStack() as opened:
        # One reader at a time: the lock of the dead is this one's for a moment, which would make
        # them alive in the eyes of another.
        try:
            directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, directory)
            fcntl.flock(directory, fcntl.LOCK_EX)
            lock = os.open(_lock_of(file), os.O_RDWR)
        except FileNotFoundError:
            return False
        opened.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _lock_of(file: Path) -> Path:
    name = f".{file.name}.alive"
    if len(name) > layout.MAX_NODE:
        name = f".{hashlib.sha256(file.name.encode()).hexdigest()}.alive"
    return file.with_name(name)
