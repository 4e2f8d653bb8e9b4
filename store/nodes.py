"""The base of a store: a tree of small versioned nodes, in ZooKeeper or in a directory.

`ovs_metadata.store.store` builds on these few operations. Each is atomic, checks the layout's
version first, and raises StoreUnavailable, UnknownLayout, or StoreError for any other failure.
Paths are those of `ovs_metadata.store.layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

from ovs_metadata.store.interface import Announcement, Follower
from ovs_metadata.store.node_type import NodeType
from ovs_metadata.store.security import ServerCertificate

S = TypeVar("S")


class Node(NamedTuple):
    """A node as it was read.

    data: its content. version: differs between different contents; for `write` and `delete` alone.
    changed: when it was written, in seconds since 1970.
    """

    data: bytes
    version: int
    changed: float


class Nodes(Protocol):
    """The tree."""

    def read(self, path: str) -> Node | None:
        """A node, None if there is none."""

    def read_many(self, paths: Sequence[str]) -> Iterator[Node | None]:
        """Those nodes, in that order, without a round trip for each."""

    def children(self, path: str) -> list[str]:
        """The names below a node, in order; none if there is no such node."""

    def write(self, path: str, data: bytes, version: int | None) -> bool:
        """Write a node if it is still of that version, or with None if it is not there yet.

        Makes the layout, and the nodes above. Returns whether the node was written.
        """

    def delete(self, path: str, version: int) -> bool:
        """Delete a node if it is still of that version and nothing is below it."""

    def is_world_readable(self, path: str) -> bool:
        """See `Store`."""

    def follow(self, node_type: NodeType[S], listener: Callable[[str, S], None]) -> Follower:
        """Start to follow nodes of one type, none of them at first."""

    def announce(self, path: str, data: bytes) -> Announcement:
        """See `Store`."""

    def alive(self, paths: Collection[str]) -> set[str]:
        """Those of the paths whose announcer is alive."""

    def lock(self, path: str, wait: float | None) -> AbstractContextManager[bool]:
        """See `Store`; `path` is that of the lock."""

    def disconnected_for(self) -> float:
        """See `Store`."""

    def server_certificate(self) -> ServerCertificate | None:
        """See `Store`."""

    def close(self) -> None:
        """See `Store`."""
