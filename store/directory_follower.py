"""Follows files of the directory store: looks at those that inotify reports as changed.

Where the user has too many watches it looks at all of them five times a second. It does so from
time to time in any case: no file system reports what another machine has changed.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from ovs_metadata.store import layout
from ovs_metadata.store.directory_wake import DirectoryWake
from ovs_metadata.store.errors import StoreUnavailable
from ovs_metadata.store.follower import ThreadedFollower
from ovs_metadata.store.interface import FatalCallback
from ovs_metadata.store.node_type import NodeType

POLL_INTERVAL = 0.2
"""Seconds between two looks at all files, while changes are not reported or cannot be read."""

LOOK_INTERVAL = 10.0
"""The same while changes are reported."""

S = TypeVar("S")

_Signature = tuple[int, int, int]


class Files(Protocol):
    """What a follower needs of the directory's nodes."""

    def file(self, path: str) -> Path:
        """The file of a node of the layout."""

    def content(self, path: str) -> bytes | None:
        """The content of a node, None if there is none; raises StoreUnavailable."""


class DirectoryFollower(ThreadedFollower[S]):
    """Compares the signatures (see `_signature`) of the followed files with those last seen."""

    confirms_cheaply = True

    def __init__(
        self,
        files: Files,
        node_type: NodeType[S],
        listener: Callable[[str, S], None],
        on_fatal: FatalCallback | None,
    ) -> None:
        self._changes = DirectoryWake()
        super().__init__(node_type, listener, on_fatal, self._changes)
        self._files = files
        self._version_file = str(files.file(layout.VERSION_NODE))
        self._version_seen: _Signature | None = None
        self._new: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._seen: dict[str, _Signature | None] = {}
        self._file_of: dict[str, str] = {}
        self._key_of: dict[str, str] = {}
        self._top = os.path.dirname(files.file(""))
        self._directories: set[str] = set()
        self._look_at_all_from = 0.0  # by time.monotonic
        self._failed: set[str] = set()
        self.lost_since: float | None = None
        """Since when the store as a whole cannot be read, by time.monotonic; None if it can be."""
        self._thread.start()

    def _added(self, keys: set[str]) -> None:
        for key in keys:
            self._seen.pop(key, None)
            self._new.put(key)

    def _pause(self) -> float:
        return max(0.0, self._look_at_all_from - time.monotonic())

    def _catch_up(self) -> bool:
        return True  # the kernel reports a change before its writer continues

    def _caught_up(self) -> bool:
        return True  # what cannot be read is an outage

    def _ended(self) -> None:
        self._changes.close()

    def _read(self) -> set[str]:
        keys = self._changed()
        now = time.monotonic()
        if keys is None or now >= self._look_at_all_from:
            # A look that fails is repeated.
            self._look_at_all_from = now + POLL_INTERVAL
            self._failed = self._look_at_all()
            if not self._failed and self._changes.notices_changes:
                self._look_at_all_from = now + LOOK_INTERVAL
        elif problems := self._look_at_keys(keys):
            # Only a look at everything ends it: these keys are not among the next changes.
            self._failed |= problems
            self._look_at_all_from = now + POLL_INTERVAL
        return self._failed

    def _changed(self) -> set[str] | None:
        """The keys that are new or have changed; None if any may have."""
        found = {self._new.get() for _ in range(self._new.qsize())}
        changes = [(name, f"{where}/{name}") for where, name in self._changes.changes()]
        for name, path in changes:
            if not name or path in self._directories or path == self._version_file:
                return None
            if path in self._key_of:
                found.add(self._key_of[path])
        return found

    def _look_at_all(self) -> set[str]:
        keys = self._listener_state.keys()
        for gone in {*list(self._seen), *self._file_of} - keys:
            self._seen.pop(gone, None)
            self._key_of.pop(self._file_of.pop(gone, ""), None)
        self._directories.clear()
        self._watch([self._version_file])
        return self._look_at_keys(keys)

    def _look_at_version(self) -> None:
        """Check the layout whenever it changed. A layout that disappeared is an outage."""
        signature = _signature(self._version_file)
        if signature == self._version_seen:
            return
        content = self._files.content(layout.VERSION_NODE)
        if content is None:
            raise StoreUnavailable(f"{self._version_file} is gone")
        layout.check_version(content)
        self._version_seen = signature

    def _look_at_keys(self, keys: Collection[str]) -> set[str]:
        files = [file for key in keys if (file := self._file(key)) is not None]
        # First, so that no change after the look stays unnoticed.
        self._watch(files)
        try:
            # Each time: when the whole store is away, no port has been deleted.
            self._look_at_version()
        except (OSError, StoreUnavailable) as error:
            self.lost_since = self.lost_since or time.monotonic()
            return {str(error)}
        self.lost_since = None
        problems = set()
        for key in keys:
            try:
                self._look_at(key)
            except (OSError, StoreUnavailable) as error:
                problems.add(str(error))
        return problems

    def _file(self, key: str) -> str | None:
        """The file of a key; None if it is no key of this type."""
        if key not in self._file_of:
            if not self._node_type.is_key(key):
                return None
            # As text, and only once: making the path takes longer than the look at the file.
            self._file_of[key] = str(self._files.file(self._node_type.path_of(key)))
            self._key_of[self._file_of[key]] = key
        return self._file_of[key]

    def _watch(self, files: Collection[str]) -> None:
        """Watch the directories of these files, and those above up to the store's own."""
        new = {os.path.dirname(file) for file in files} - self._directories
        wanted = {each for directory in new for each in self._up_to_the_top(directory)}
        self._changes.watch(wanted - self._directories)
        # One may appear that is above the store's.
        self._directories |= wanted | set(_parents(self._top))

    def _up_to_the_top(self, directory: str) -> Iterator[str]:
        yield directory
        for parent in _parents(directory):
            if len(parent) < len(self._top):
                return
            yield parent

    def _look_at(self, key: str) -> None:
        file = self._file(key)
        if file is None:
            self._listener_state.report(key, None)
            return
        signature = _signature(file)
        if key in self._seen and self._seen[key] == signature:
            return
        data = self._files.content(self._node_type.path_of(key))
        # Noted before the report: a key that is followed again just now is reported or read again.
        self._seen[key] = signature
        self._listener_state.report(key, data)


def _parents(directory: str) -> Iterator[str]:
    while (parent := os.path.dirname(directory)) != directory:
        directory = parent
        yield directory


def _signature(file: str) -> _Signature | None:
    """What differs when a file was replaced or written to; None if there is none."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
