"""The nodes of a process's snapshot, to read what it knows while the store does not answer.

Of this store, nothing can be written, followed or announced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn, TypeVar

from ovs_metadata.store.errors import StoreError, StoreUnavailable
from ovs_metadata.store.files import check_directory
from ovs_metadata.store.interface import Announcement, Follower
from ovs_metadata.store.node_type import NodeType
from ovs_metadata.store.nodes import Node
from ovs_metadata.store.security import ServerCertificate
from ovs_metadata.store.snapshot import read_snapshot
from ovs_metadata.store.store import Store
from ovs_metadata.store.url import ZooKeeperLocation, parse_store_url

S = TypeVar("S")


def open_snapshot(file: Path, url: str) -> Store:
    """The store of that URL as a snapshot has it.

    Raises:
        StoreError: there is no snapshot of it.
    """
    location = parse_store_url(url)
    if not isinstance(location, ZooKeeperLocation):
        raise StoreError(f"there is no snapshot of {url}")
    try:
        check_directory(file.parent, {0, os.geteuid()})
        known = read_snapshot(file, f"{location.hosts}{location.chroot}")
        changed = file.stat().st_mtime
    except (OSError, ValueError) as error:
        raise StoreError(f"snapshot {file}: {error}") from error
    return Store(
        SnapshotNodes(
            {
                path: Node(each.data, 0, changed)
                for path, each in known.items()
                if each.data is not None
            }
        )
    )


class SnapshotNodes:
    """`Nodes` that can only be read."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self._nodes = nodes

    def read(self, path: str) -> Node | None:
        """See `Nodes`."""
        return self._nodes.get(path)

    def read_many(self, paths: Sequence[str]) -> Iterator[Node | None]:
        """See `Nodes`."""
        return map(self._nodes.get, paths)

    def children(self, path: str) -> list[str]:
        """See `Nodes`."""
        below = f"{path.rstrip('/')}/"
        names = (each.removeprefix(below) for each in self._nodes if each.startswith(below))
        return sorted({name.partition("/")[0] for name in names})

    def is_world_readable(self, path: str) -> bool:  # noqa: ARG002 - of no path
        """See `Nodes`."""
        return False

    def alive(self, paths: Collection[str]) -> set[str]:  # noqa: ARG002 - of no path
        """See `Nodes`."""
        return set()

    def disconnected_for(self) -> float:
        """See `Nodes`."""
        return 0.0

    def server_certificate(self) -> ServerCertificate | None:
        """See `Nodes`."""
        return None

    def close(self) -> None:
        """See `Nodes`."""

    def write(self, path: str, data: bytes, version: int | None) -> bool:  # noqa: ARG002
        """See `Nodes`."""
        _refuse()

    def delete(self, path: str, version: int) -> bool:  # noqa: ARG002
        """See `Nodes`."""
        _refuse()

    def follow(self, node_type: NodeType[S], listener: Callable[[str, S], None]) -> Follower:  # noqa: ARG002
        """See `Nodes`."""
        _refuse()

    def announce(self, path: str, data: bytes) -> Announcement:  # noqa: ARG002
        """See `Nodes`."""
        _refuse()

    def lock(self, path: str, wait: float | None) -> AbstractContextManager[bool]:  # noqa: ARG002
        """See `Nodes`."""
        _refuse()


def _refuse() -> NoReturn:
    raise StoreUnavailable("the store does not answer, and a snapshot of it can only be read")
