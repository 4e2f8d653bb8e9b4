"""The store in a directory: for one machine, a lab, the demo.

Each node of the layout is a file below the root, replaced atomically (written aside, synced,
renamed). Files are 0600 and directories 0700. Writers take turns by a lock file, over threads and
processes; readers take no lock. Each follower is one thread that looks at its ports' files five
times a second: no notification mechanism to depend on, and cheap for one host's ports.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ovs_metadata.store import layout
from ovs_metadata.store.errors import MalformedRecord, RecordNotFound, StoreUnavailable
from ovs_metadata.store.follower import ThreadedFollower
from ovs_metadata.store.interface import FatalCallback, Follower, Listener
from ovs_metadata.store.record import MAX_DOCUMENT, PortRecord, is_port_id
from ovs_metadata.store.revision import Outcome, Stored, may_delete, outcome_of_put

POLL_INTERVAL = 0.2
"""Seconds between two looks at the followed files."""

_Signature = tuple[int, int, int]


class DirectoryStore:
    """A `Store` below `root`, which is made with the first record.

    Args:
        root: the directory.
        on_fatal: told when a follower gives up.

    Raises:
        UnknownLayout: the directory has a layout of another version.
        StoreUnavailable: the directory is there and cannot be read.
    """

    def __init__(self, root: Path, *, on_fatal: FatalCallback | None = None) -> None:
        self._root = root
        self._on_fatal = on_fatal
        self._followers: list[Follower] = []
        self._check_layout()

    def get(self, port_id: str) -> PortRecord:
        """See `Store`."""
        self._check_layout()
        match self._stored(port_id):
            case PortRecord() as record:
                return record
            case MalformedRecord() as malformed:
                raise malformed
            case None:
                raise RecordNotFound(port_id)

    def put(self, record: PortRecord, *, force: bool = False) -> bool:
        """See `Store`."""
        with self._writing():
            outcome = outcome_of_put(self._stored(record.port_id), record, force=force)
            if outcome is Outcome.WRITE:
                self._write(layout.port_path(record.port_id), record.to_json())
        return outcome is not Outcome.OUTDATED

    def delete(self, port_id: str, revision_number: int | None = None) -> bool:
        """See `Store`."""
        # Deleting from an empty store must not make its directories.
        if not self._check_layout():
            return False
        with self._writing():
            if not may_delete(self._stored(port_id), revision_number):
                return False
            with self._reported():
                self.file(layout.port_path(port_id)).unlink()
        return True

    def port_ids(self) -> Iterator[str]:
        """See `Store`."""
        self._check_layout()
        for shard in self._names(layout.PORTS):
            yield from filter(is_port_id, self._names(layout.shard_path(shard)))

    def follow(self, listener: Listener) -> Follower:
        """See `Store`."""
        follower = _DirectoryFollower(self, listener, self._on_fatal)
        self._followers.append(follower)
        return follower

    def close(self) -> None:
        """See `Store`."""
        while self._followers:
            self._followers.pop().close()

    def file(self, path: str) -> Path:
        """The file of a node of the layout."""
        return self._root / path.removeprefix("/")

    def read(self, path: str) -> bytes | None:
        """The content of a node, None if it does not exist; no more of it than shows it too large.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        with self._reported():
            try:
                with self.file(path).open("rb") as file:
                    return file.read(MAX_DOCUMENT + 1)
            except FileNotFoundError:
                return None

    def _check_layout(self) -> bool:
        """Whether there is a layout; raises UnknownLayout if it is of another version."""
        content = self.read(layout.VERSION_NODE)
        if content is not None:
            layout.check_version(content)
        return content is not None

    def _stored(self, port_id: str) -> Stored:
        data = self.read(layout.port_path(port_id)) if is_port_id(port_id) else None
        if data is None:
            return None
        try:
            return PortRecord.from_json(port_id, data)
        except MalformedRecord as malformed:
            return malformed

    def _names(self, path: str) -> list[str]:
        with self._reported():
            try:
                return sorted(os.listdir(self.file(path)))
            except FileNotFoundError:
                return []

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone among the writers of all threads and processes, with the layout in place.

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
                self._write(layout.VERSION_NODE, layout.version_content())
            yield

    def _write(self, path: str, content: bytes) -> None:
        """Replace a node. Only one writer at a time does, so the file aside has a fixed name."""
        file = self.file(path)
        aside = self.file(f"{layout.ROOT}/.new")
        with self._reported():
            self._make_directories(file.parent)
            descriptor = os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as output:
                output.write(content)
                output.flush()
                os.fsync(descriptor)
            aside.replace(file)
            _sync_directory(file.parent)

    def _make_directories(self, path: Path) -> None:
        """Make `path` and what is missing above it, each 0700 (mkdir gives that to the last)."""
        if path.is_dir():
            return
        self._make_directories(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        _sync_directory(path.parent)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn what the file system says into StoreUnavailable."""
        try:
            yield
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise StoreUnavailable(
                f"store directory {self._root}: {error.strerror or error}{where}"
            ) from error


class _DirectoryFollower(ThreadedFollower):
    """Compares the signatures (see `_signature`) of the followed files with those last seen."""

    def __init__(
        self, store: DirectoryStore, listener: Listener, on_fatal: FatalCallback | None
    ) -> None:
        super().__init__(listener, on_fatal)
        self._store = store
        self._version_seen: _Signature | None = None
        self._seen: dict[str, _Signature | None] = {}
        self._files: dict[str, str] = {}
        self._thread.start()

    def _added(self, port_ids: set[str]) -> None:
        for port_id in port_ids:
            self._seen.pop(port_id, None)

    def _pause(self) -> float:
        return POLL_INTERVAL

    def _read(self) -> set[str]:
        try:
            self._look_at_version()
        except (OSError, StoreUnavailable) as error:
            return {str(error)}
        ports = self._reports.ports()
        for gone in [port_id for port_id in list(self._seen) if port_id not in ports]:
            self._seen.pop(gone, None)
            self._files.pop(gone, None)
        problems = set()
        for port_id in ports:
            try:
                self._look_at(port_id)
            except (OSError, StoreUnavailable) as error:
                problems.add(str(error))
        return problems

    def _look_at_version(self) -> None:
        """Check the layout whenever it changed. One that was there and is not is an outage."""
        signature = _signature(self._store.file(layout.VERSION_NODE))
        if signature == self._version_seen:
            return
        content = self._store.read(layout.VERSION_NODE)
        if content is None:
            raise StoreUnavailable(f"{self._store.file(layout.VERSION_NODE)} is gone")
        layout.check_version(content)
        self._version_seen = signature

    def _look_at(self, port_id: str) -> None:
        if port_id not in self._files:
            if not is_port_id(port_id):
                self._reports.tell(port_id, None)
                return
            # As text, once: making the path takes longer than looking at the file.
            self._files[port_id] = str(self._store.file(layout.port_path(port_id)))
        signature = _signature(self._files[port_id])
        if port_id in self._seen and self._seen[port_id] == signature:
            return
        data = self._store.read(layout.port_path(port_id))
        # Noted before it is told: a port that is followed anew just now is told or read again.
        self._seen[port_id] = signature
        self._reports.tell(port_id, data)


def _signature(file: Path | str) -> _Signature | None:
    """What differs when a file was replaced or written to; None if there is none."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _sync_directory(path: Path) -> None:
    """Make names in a directory survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
