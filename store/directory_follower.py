"""Follows files of the directory store: looks at each of them five times a second.

No notification mechanism to depend on, and cheap for one host's ports.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from ovs_metadata.store import layout
from ovs_metadata.store.errors import StoreUnavailable
from ovs_metadata.store.follower import ThreadedFollower
from ovs_metadata.store.interface import FatalCallback
from ovs_metadata.store.node_type import NodeType

POLL_INTERVAL = 0.2
"""Seconds between two looks at the followed files."""

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
        super().__init__(node_type, listener, on_fatal)
        self._files = files
        self._version_seen: _Signature | None = None
        self._seen: dict[str, _Signature | None] = {}
        self._file_of: dict[str, str] = {}
        self._thread.start()

    def _added(self, keys: set[str]) -> None:
        for key in keys:
            self._seen.pop(key, None)

    def _pause(self) -> float:
        return POLL_INTERVAL

    def _catch_up(self) -> bool:
        return True  # each read looks at all files

    def _caught_up(self) -> bool:
        return True  # what cannot be read is an outage

    def _read(self) -> set[str]:
        try:
            self._look_at_version()
        except (OSError, StoreUnavailable) as error:
            return {str(error)}
        keys = self._listener_state.keys()
        for gone in {*list(self._seen), *self._file_of} - keys:
            self._seen.pop(gone, None)
            self._file_of.pop(gone, None)
        problems = set()
        for key in keys:
            try:
                self._look_at(key)
            except (OSError, StoreUnavailable) as error:
                problems.add(str(error))
        return problems

    def _look_at_version(self) -> None:
        """Check the layout whenever it changed. A layout that disappeared is an outage."""
        signature = _signature(self._files.file(layout.VERSION_NODE))
        if signature == self._version_seen:
            return
        content = self._files.content(layout.VERSION_NODE)
        if content is None:
            raise StoreUnavailable(f"{self._files.file(layout.VERSION_NODE)} is gone")
        layout.check_version(content)
        self._version_seen = signature

    def _look_at(self, key: str) -> None:
        if key not in self._file_of:
            if not self._node_type.is_key(key):
                self._listener_state.report(key, None)
                return
            # As text, and only once: making the path takes longer than the look at the file.
            self._file_of[key] = str(self._files.file(self._node_type.path_of(key)))
        signature = _signature(self._file_of[key])
        if key in self._seen and self._seen[key] == signature:
            return
        data = self._files.content(self._node_type.path_of(key))
        # Noted before the report: a key that is followed again just now is reported or read again.
        self._seen[key] = signature
        self._listener_state.report(key, data)


def _signature(file: Path | str) -> _Signature | None:
    """What differs when a file was replaced or written to; None if there is none."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
