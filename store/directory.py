"""The store's nodes as files of a directory: for one machine, a lab, the demo.

Each node of the layout is a file below the root, replaced atomically (written aside, synced,
renamed). Files are 0600 and directories 0700. A lock file admits one writer at a time, of all
threads and processes; readers take no lock. A name that begins with a dot is a lock, not a node.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ovs_metadata.regular_file import open_regular
from ovs_metadata.store import layout
from ovs_metadata.store.directory_announcement import DirectoryAnnouncement, is_alive
from ovs_metadata.store.directory_follower import DirectoryFollower
from ovs_metadata.store.errors import StoreError, StoreUnavailable
from ovs_metadata.store.files import check_directory, replace_file, sync_directory
from ovs_metadata.store.interface import Announcement, FatalCallback, Follower
from ovs_metadata.store.node_type import NodeType
from ovs_metadata.store.nodes import Node
from ovs_metadata.store.record import MAX_DOCUMENT
from ovs_metadata.store.security import ServerCertificate

S = TypeVar("S")

LOCK_INTERVAL = 0.1
"""Seconds between two attempts to take a lock that another process holds."""


class DirectoryNodes:
    """`Nodes` below `root`, which is made with the first write.

    Args:
        root: the directory.
        on_fatal: called when a follower stops.

    Raises:
        UnknownLayout: the directory has a layout of another version.
        StoreUnavailable: the directory is there and cannot be read.
        StoreError: another user than root and this one can write to it.
    """

    def __init__(self, root: Path, *, on_fatal: FatalCallback | None = None) -> None:
        self._root = root
        self._on_fatal = on_fatal
        self._following = threading.Lock()
        self._followers: list[DirectoryFollower[Any]] = []
        self._announcements: list[DirectoryAnnouncement] = []
        self._check_layout()

    def read(self, path: str) -> Node | None:
        """See `Nodes`."""
        self._check_layout()
        return self._node(path)

    def read_many(self, paths: Sequence[str]) -> Iterator[Node | None]:
        """See `Nodes`."""
        return map(self._node, paths)

    def children(self, path: str) -> list[str]:
        """See `Nodes`."""
        self._check_layout()
        with self._reported():
            try:
                names = os.listdir(self.file(path))
            except FileNotFoundError:
                return []
        return sorted(name for name in names if not name.startswith("."))

    def write(self, path: str, data: bytes, version: int | None) -> bool:
        """See `Nodes`."""
        with self._writing():
            if not self._is(path, version):
                return False
            self._replace(path, data)
        return True

    def delete(self, path: str, version: int) -> bool:
        """See `Nodes`."""
        # Deleting from an empty store must not make its directories.
        if not self._check_layout():
            return False
        with self._writing():
            if not self._is(path, version) or is_alive(self.file(path)):
                return False
            with self._reported():
                self.file(path).unlink()
        return True

    def is_world_readable(self, path: str) -> bool:  # noqa: ARG002 - of no path
        """See `Nodes`: only the owner can read a file, from its creation."""
        return False

    def follow(self, node_type: NodeType[S], listener: Callable[[str, S], None]) -> Follower:
        """See `Nodes`."""
        follower = DirectoryFollower(self, node_type, listener, self._on_fatal)
        with self._following:
            self._followers = [each for each in self._followers if not each.closed] + [follower]
        return follower

    def announce(self, path: str, data: bytes) -> Announcement:
        """See `Nodes`."""
        with self._writing(), self._reported():
            self._make_directories(self.file(path).parent)
            announcement = DirectoryAnnouncement(self.file(path), lambda new: self._put(path, new))
        self._announcements.append(announcement)
        announcement.update(data)
        return announcement

    def alive(self, paths: Collection[str]) -> set[str]:
        """See `Nodes`."""
        with self._reported():
            return {path for path in paths if is_alive(self.file(path))}

    @contextlib.contextmanager
    def lock(self, path: str, wait: float | None) -> Iterator[bool]:
        """See `Nodes`."""
        deadline = None if wait is None else time.monotonic() + wait
        with contextlib.ExitStack() as stack:
            with self._writing(), self._reported():
                file = self.file(path)
                self._make_directories(file.parent)
                lock = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
                stack.callback(os.close, lock)
            while not (held := _try_lock(lock)):
                if deadline is not None and time.monotonic() >= deadline:
                    break
                time.sleep(LOCK_INTERVAL)
            yield held

    def disconnected_for(self) -> float:
        """See `Nodes`: as followers have found it."""
        with self._following:
            since = [each.lost_since for each in self._followers if not each.closed]
        lost = [moment for moment in since if moment is not None]
        return time.monotonic() - min(lost) if lost else 0.0

    def server_certificate(self) -> ServerCertificate | None:
        """See `Nodes`."""
        return None

    def close(self) -> None:
        """See `Nodes`."""
        while self._followers:
            self._followers.pop().close()
        while self._announcements:
            self._announcements.pop().close()

    def file(self, path: str) -> Path:
        """The file of a node of the layout."""
        return self._root / path.removeprefix("/")

    def content(self, path: str) -> bytes | None:
        """The content of a node, None if it does not exist; at most one byte above the limit.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        node = self._node(path)
        return node.data if node else None

    def _node(self, path: str) -> Node | None:
        with self._reported():
            try:
                with open_regular(self.file(path)) as file:
                    data = file.read(MAX_DOCUMENT + 1)
                    changed = os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                return None
        return Node(data, _version(data), changed)

    def _is(self, path: str, version: int | None) -> bool:
        node = self._node(path)
        return (node.version if node else None) == version

    def _check_layout(self) -> bool:
        """Whether there is a layout, in a directory that only root and this user can write to.

        Raises UnknownLayout for another version, StoreError if other users can write to it.
        """
        try:
            check_directory(self._root, {0, os.geteuid()})
        except PermissionError as error:
            raise StoreError(
                f"{error}: a user who can write to it decides which instance is which"
            ) from error
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreUnavailable(f"{self._root}: {error.strerror}") from error
        content = self.content(layout.VERSION_NODE)
        if content is not None:
            layout.check_version(content)
        return content is not None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the writers' lock, of all threads and processes, with the layout in place.

        What runs inside must not switch greenlets (no logging, no threading locks): in a process
        patched by eventlet, flock in a second one would stop the first as well.
        """
        with contextlib.ExitStack() as stack:
            with self._reported():
                self._make_directories(self.file(layout.ROOT))
                lock = os.open(self.file(f"{layout.ROOT}/.lock"), os.O_CREAT | os.O_RDWR, 0o600)
                stack.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._check_layout():
                self._replace(layout.VERSION_NODE, layout.version_content())
            yield

    def _put(self, path: str, data: bytes) -> None:
        with self._writing():
            self._replace(path, data)

    def _replace(self, path: str, content: bytes) -> None:
        """Replace a node. There is one writer at a time, so the temporary file has a fixed name."""
        file = self.file(path)
        aside = self.file(f"{layout.ROOT}/.new")
        with self._reported():
            self._make_directories(file.parent)
            replace_file(file, aside, content)

    def _make_directories(self, path: Path) -> None:
        """Make `path` and what is missing above it, each 0700 (mkdir gives that to the last)."""
        if path.is_dir():
            return
        self._make_directories(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Raise errors of the file system as StoreUnavailable."""
        try:
            yield
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise StoreUnavailable(
                f"store directory {self._root}: {error.strerror or error}{where}"
            ) from error


def _version(data: bytes) -> int:
    """A node's version: a hash of its content.

    Files have no version numbers. A conditional write is also right if another writer has restored
    the content that the condition names.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[:7], "big")


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
