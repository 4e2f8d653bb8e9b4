"""Announcements in a directory: beside the entry's file, a lock that a live announcer holds.

The kernel releases the lock with its process, however that ends. No threads.
"""

from __future__ import annotations

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
        # Shared, so that the next agent can announce itself while the last one is still ending.
        self._lock: int | None = os.open(_lock_of(file), os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def update(self, data: bytes) -> None:
        """See `Announcement`."""
        try:
            self._write(data)
        except StoreError as error:
            LOG.warning("cannot update %s: %s", self._file, error)

    def close(self) -> None:
        """See `Announcement`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def is_alive(file: Path) -> bool:
    """Whether the announcer of this file is alive; raises OSError if it cannot find out."""
    with contextlib.ExitStack() as opened:
        # One reader at a time: a reader takes a dead announcer's lock for a moment, which another
        # reader would mistake for a live announcer.
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
