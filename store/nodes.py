"""What the stores are made of: a tree of small versioned nodes, in ZooKeeper or in a directory.

Everything the store promises about records and documents (`ovs_metadata.store.store`) rests on
these few operations, each of which is atomic, checks the layout's version before it does anything,
and raises StoreUnavailable, UnknownLayout, or StoreError for what is neither. Paths are those of
`ovs_metadata.store.layout`.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

from ovs_metadata.store.interface import Announcement, Follower
from ovs_metadata.store.node_type import NodeType

S = TypeVar("S")


class Node(NamedTuple):
    """A node as it was read.

    data: its content. version: another number for every other content, and good for nothing but to
    be handed to `write` and `delete`. changed: when it was written, in seconds since 1970.
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
        """See `Store`; `path` stands for the lock's name."""

    def close(self) -> None:
        """See `Store`."""
