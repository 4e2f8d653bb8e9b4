"""A snapshot of the followed nodes in a file: for a restart during an outage.

A follower without a connection reports nodes from here; later reads replace them. The file belongs
to one process and one store. Its mode is 0600, because documents hold a secret. It counts only if
it is of this user, and of the same store. Its nodes are then validated as those of the store are.

Each line is a JSON array: of the format and the store, and then of each node's path and its content
(base64; null: the node is absent). A node that has changed is appended; a path without a content
removes its node. When what was appended is as long as what there was, the file is replaced, so that
a save costs what has changed. A line without its newline was not written to its end.

The followers' threads use it, and any of them saves it.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.regular_file import open_regular
from ovs_metadata.store.files import append_to_file, check_directory, replace_file
from ovs_metadata.untrusted import parse_json

LOG = logging.getLogger(__name__)

FORMAT = 2

MAX_NODES = 512
"""Nodes kept, unless more are followed. Nodes that are no longer followed stay while there is room,
because the reboot of an instance unplugs its port and plugs it again."""

MAX_SIZE = 2 * MAX_NODES * 64 * 1024
"""Bytes of a valid file, at most."""

SPARE = 64 * 1024
"""Bytes that a file may grow by, besides its size when it was replaced."""

SAVE_INTERVAL = 1.0
"""Seconds between two writes of the file, at least."""


class CachedNode(NamedTuple):
    """A cached node: its content; None: the node is absent."""

    data: bytes | None


class Snapshot:
    """The nodes, by the layout's path.

    Args:
        file: keeps the nodes. A fault of it is logged, and it counts as empty.
        store: identifies the store.
    """

    def __init__(self, file: Path, store: str) -> None:
        self._file = file
        self._store = store
        self._lock = threading.Lock()
        self._changed: dict[str, None] = {}  # paths of nodes that the file has otherwise
        self._size: int | None = None  # of the file, as far as it is known
        self._replace_at = 0  # the size from which it is replaced
        self._problem = ProblemLog(LOG, "cannot write snapshot %s")
        self._saved_at = -SAVE_INTERVAL
        self._nodes = self._load()
        # Those without a follower, in the order in which they are dropped.
        self._unpinned = dict.fromkeys(self._nodes)

    def get(self, path: str) -> CachedNode | None:
        """The cached state of a followed node; None: unknown. Pins the node."""
        with self._lock:
            self._unpinned.pop(path, None)
            return self._nodes.get(path)

    def put(self, path: str, known: CachedNode | None) -> None:
        """Cache the state of a followed node; None: it is unknown. Pins the node."""
        with self._lock:
            self._unpinned.pop(path, None)
            if self._nodes.get(path) == known:
                return
            if known is None:
                del self._nodes[path]
            else:
                self._nodes[path] = known
                self._make_room()
            self._changed[path] = None

    def unpin(self, path: str) -> None:
        """A node is no longer followed, and may be dropped for lack of room."""
        with self._lock:
            if path in self._nodes:
                self._unpinned[path] = None
                self._make_room()

    def _make_room(self) -> None:
        while len(self._nodes) > MAX_NODES and self._unpinned:
            path = next(iter(self._unpinned))
            del self._unpinned[path], self._nodes[path]
            self._changed[path] = None

    def save(self, *, now: bool = False) -> float | None:
        """Write the file if something changed, at most once a SAVE_INTERVAL unless `now`.

        Returns:
            Seconds until the next call is due; None if everything is written.
        """
        with self._lock:
            if not self._changed:
                return None
            due = self._saved_at + SAVE_INTERVAL - time.monotonic()
            if due > 0 and not now:
                return due
            self._saved_at = time.monotonic()
            try:
                self._write()
            except OSError as error:
                self._problem.found([f"{self._file}: {error}"])
                return SAVE_INTERVAL
            self._problem.found()
            self._changed.clear()
        return None

    def _write(self) -> None:
        """Bring the file up to date; raises OSError."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_directory(self._file.parent, {0, os.geteuid()})
        changes = b"".join(_line(path, self._nodes.get(path)) for path in self._changed)
        before, self._size = self._size, None  # not known if writing fails
        if (
            before is None
            or before + len(changes) > self._replace_at
            or not append_to_file(self._file, before, changes)
        ):
            nodes = (_line(path, known) for path, known in self._nodes.items())
            content = b"".join((_array(FORMAT, self._store), *nodes))
            aside = self._file.with_name(f"{self._file.name}.new")
            replace_file(self._file, aside, content)
            self._size = len(content)
            self._replace_at = min(2 * self._size + SPARE, MAX_SIZE)
        else:
            self._size = before + len(changes)

    def _load(self) -> dict[str, CachedNode]:
        try:
            check_directory(self._file.parent, {0, os.geteuid()})
            return read_snapshot(self._file, self._store)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            LOG.warning("ignoring snapshot %s: %s", self._file, error)
            return {}


def read_snapshot(file: Path, store: str) -> dict[str, CachedNode]:
    """The nodes in a file; raises OSError, and ValueError when it is not as we write it."""
    with open_regular(file) as opened:
        _check_ours(os.fstat(opened.fileno()))
        return parse_snapshot(opened.read(MAX_SIZE + 1), store)


def _check_ours(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise ValueError("another user may have written or read it")


def parse_snapshot(data: bytes, store: str) -> dict[str, CachedNode]:
    """The nodes of a file's content; raises ValueError when it is not as we write it."""
    if len(data) > MAX_SIZE:
        raise ValueError(f"it has more than {MAX_SIZE} bytes")
    *lines, unfinished = data.split(b"\n")
    if not lines:
        return _parse_first_format(unfinished, store)
    head, *changes = (parse_json(line, MAX_SIZE) for line in lines)
    if not isinstance(head, list) or head[:1] != [FORMAT]:
        raise ValueError("not a snapshot of a known format")
    if head[1:] != [store]:
        raise ValueError("it belongs to another store")
    nodes: dict[str, CachedNode] = {}
    for change in changes:
        if not isinstance(change, list) or not change or not isinstance(change[0], str):
            raise ValueError("a line has no node")
        path, *content = change
        if content:
            nodes[path] = _known(content[0])
        else:
            nodes.pop(path, None)
    return nodes


def _parse_first_format(data: bytes, store: str) -> dict[str, CachedNode]:
    """The nodes in a file of an earlier release: one object, without a newline."""
    document = parse_json(data, MAX_SIZE)
    if not isinstance(document, dict) or document.get("format") != 1:
        raise ValueError("not a snapshot of a known format")
    if document.get("store") != store:
        raise ValueError("it belongs to another store")
    nodes = document.get("nodes")
    if not isinstance(nodes, dict):
        raise ValueError("it has no nodes")  # noqa: TRY004 - a mistake of the file's
    return {path: _known(each) for path, each in nodes.items()}


def _known(encoded: object) -> CachedNode:
    if encoded is None:
        return CachedNode(None)
    if not isinstance(encoded, str):
        raise ValueError("a node is neither text nor null")  # noqa: TRY004
    # binascii.Error is a ValueError.
    return CachedNode(base64.b64decode(encoded, validate=True))


def _line(path: str, known: CachedNode | None) -> bytes:
    """The line of a node; None: it is removed."""
    if known is None:
        return _array(path)
    return _array(path, None if known.data is None else base64.b64encode(known.data).decode())


def _array(*items: object) -> bytes:
    return json.dumps(items).encode("ascii") + b"\n"
