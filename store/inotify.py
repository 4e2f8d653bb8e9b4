"""inotify(7), as far as followers of the directory store need it.

By ctypes, since the libraries for it use select.poll, which eventlet takes from a process. One
thread uses an object, from construction to `close`.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

_IN_CLOSE_WRITE, _IN_MOVED_FROM, _IN_MOVED_TO = 0x8, 0x40, 0x80
_IN_CREATE, _IN_DELETE, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_IN_IGNORED, _IN_ONLYDIR, _IN_ISDIR = 0x8000, 0x1000000, 0x40000000

_WATCHED = (
    _IN_CLOSE_WRITE
    | _IN_MOVED_FROM
    | _IN_MOVED_TO
    | _IN_CREATE
    | _IN_DELETE
    | _IN_DELETE_SELF
    | _IN_MOVE_SELF
    | _IN_ONLYDIR
)

_LIBC = ctypes.CDLL(None, use_errno=True)
_EVENT = struct.Struct("iIII")
"""Watch, what happened, cookie, length of the name that follows (inotify_event)."""
_ENOUGH = 16384


class Inotify:
    """Names of what changes in watched directories."""

    def __init__(self) -> None:
        """Make it; raises OSError if the user has too many."""
        self._directories: dict[int, str] = {}
        self._buffer = bytearray(_ENOUGH)
        self._descriptor = _checked(_LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """Readable when `changes` has something."""
        return self._descriptor

    def watch(self, directory: str) -> None:
        """Watch a directory; once more does nothing.

        Raises:
            FileNotFoundError: there is no directory of that name.
            OSError: it cannot be watched.
        """
        watch = _checked(
            _LIBC.inotify_add_watch(self._descriptor, os.fsencode(directory), _WATCHED)
        )
        self._directories[watch] = directory

    def changes(self) -> Iterator[tuple[str, str]]:
        """Directories in which, and names of what has changed since the last call.

        A name is empty if anything may have changed there, the directory itself among it. Both are
        empty if anything may have changed anywhere.
        """
        while True:
            try:
                # Not os.read, which waits in a process that eventlet has patched.
                length = os.readv(self._descriptor, [self._buffer])
            except BlockingIOError:
                return
            data = bytes(self._buffer[:length])
            at = 0
            while at < len(data):
                watch, what, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                name = data[at - length : at].rstrip(b"\0")
                # A new file is reported when its writer closes it.
                if what & _IN_ISDIR or not what & _IN_CREATE:
                    # Of no watch at all: the queue was full.
                    yield self._directories.get(watch, ""), os.fsdecode(name)
                if what & _IN_IGNORED:
                    self._directories.pop(watch, None)

    def close(self) -> None:
        """Watch no more."""
        os.close(self._descriptor)


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
