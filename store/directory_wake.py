"""What wakes a follower of the directory store: its owner, and changes of what it watches.

It has the interface of threading.Event. `set` may be called by any thread, everything else by the
follower's. Works in a process that eventlet has patched: `selectors` is its own one there, and
os.readv and os.writev, unlike os.read and os.write, do not wait.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
from collections.abc import Iterable

from ovs_metadata.store.inotify import Inotify


class DirectoryWake:
    """Lives from construction to `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._buffer = bytearray(4096)
        self._closed = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        self._inotify: Inotify | None = None
        with contextlib.suppress(OSError):
            self._inotify = Inotify()
            self._selector.register(self._inotify, selectors.EVENT_READ)

    @property
    def notices_changes(self) -> bool:
        """Whether changes wake: not if the user has too many watches."""
        return self._inotify is not None

    def set(self) -> None:
        """Wake."""
        with self._lock, contextlib.suppress(BlockingIOError):  # it is full, so it wakes
            if not self._closed:
                os.writev(self._writer, [b"\0"])

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is woken, or the time has passed; whether it was woken."""
        return bool(self._selector.select(timeout))

    def clear(self) -> None:
        """Wait again from now on. What has changed is for `changes`."""
        with contextlib.suppress(BlockingIOError):
            while os.readv(self._reader, [self._buffer]):
                pass

    def watch(self, directories: Iterable[str]) -> None:
        """Watch these directories too: the nearest above, where there is none."""
        for each in directories:
            if not self._watch(each):
                self._watch_above(each)

    def _watch_above(self, directory: str) -> None:
        above = os.path.dirname(directory)
        if not self._watch(above):
            self._watch_above(above)
        # It may have appeared before the one above was watched, which does not report it then.
        self._watch(directory)

    def _watch(self, directory: str) -> bool:
        """Watch it if it is there; returns whether no other is to be watched in its place."""
        try:
            if self._inotify is not None:
                self._inotify.watch(directory)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            self._give_up()
        return True

    def changes(self) -> list[tuple[str, str]]:
        """See `Inotify.changes`."""
        return list(self._inotify.changes()) if self._inotify else []

    def close(self) -> None:
        """Wake no more."""
        with self._lock:
            self._closed = True
            self._give_up()
            self._selector.close()
            os.close(self._reader)
            os.close(self._writer)

    def _give_up(self) -> None:
        if self._inotify is not None:
            self._selector.unregister(self._inotify)
            self._inotify.close()
            self._inotify = None
