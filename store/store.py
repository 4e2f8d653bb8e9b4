"""The store: records and documents on a tree of nodes, in ZooKeeper or in a directory.

It may be used from several threads, and has none of its own. Those of followers and announcements
are daemons and end in `close`. Writers are few (publisher, operator); followers are many, one or
two per hypervisor, and follow only the ports of their own host.

All that is decided here is decided by compare-and-set: read a node, decide by a pure function
(`ovs_metadata.store.revision`), write on condition that it has not changed, or else begin again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from ovs_metadata.store import layout
from ovs_metadata.store.errors import MalformedRecord, RecordNotFound, StoreError
from ovs_metadata.store.interface import (
    Announced,
    Announcement,
    Document,
    DocumentFollower,
    DocumentListener,
    Follower,
    Listener,
)
from ovs_metadata.store.node_type import DOCUMENTS, PORTS
from ovs_metadata.store.nodes import Node, Nodes
from ovs_metadata.store.record import MAX_DOCUMENT, PortRecord, is_port_id
from ovs_metadata.store.revision import (
    PutOutcome,
    Stored,
    Tombstone,
    outcome_of_delete,
    outcome_of_put,
    outcome_of_undelete,
    stored,
)


class Store:
    """Port records by port id, documents by path, and who is there.

    Port ids are UUIDs in lower case with dashes. Paths are made by `ovs_metadata.store.layout`.
    A document is up to 64 KiB of anything.

    Every method but `close` may raise StoreUnavailable, UnknownLayout, or StoreError for what is
    none of these (permissions, for example).

    Args:
        nodes: what it is made of, in ZooKeeper or in a directory. It closes them.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def get(self, port_id: str) -> PortRecord:
        """The record of a port.

        Raises:
            RecordNotFound: there is none.
            MalformedRecord: there is one that cannot be used.
        """
        node = self.nodes.read(layout.port_path(port_id)) if is_port_id(port_id) else None
        match _stored(port_id, node):
            case PortRecord() as record:
                return record
            case MalformedRecord() as malformed:
                raise malformed
            case _:
                raise RecordNotFound(port_id)

    def put(self, record: PortRecord, *, force: bool = False) -> bool:
        """Store a record unless one that wins is there already: compare-and-set on the revision.

        A higher revision wins, and of different records of the same revision the stored one. With
        `force` this record wins over everything.

        Returns:
            Whether the store now holds exactly this record.
        """
        return self._put(record, lambda stored: outcome_of_put(stored, record, force=force))

    def undelete(self, record: PortRecord) -> bool:
        """Store a record as `put` does, also over the tombstone of a removal that was a mistake.

        The tombstone of a port deleted for good, of MAX_REVISION, keeps it out all the same.

        Returns:
            Whether the store now holds exactly this record.
        """
        return self._put(record, lambda stored: outcome_of_undelete(stored, record))

    def delete(self, port_id: str, revision_number: int | None = None) -> bool:
        """Delete a record, but not one newer than `revision_number` if that is given.

        With a revision it leaves a tombstone, also if there was no record: `put` of that or a
        lower revision is outdated from then on. Without, an operator's delete, it leaves nothing.

        Returns:
            Whether a record was deleted.
        """
        if not is_port_id(port_id):
            return False
        path = layout.port_path(port_id)
        while True:
            node = self.nodes.read(path)
            outcome = outcome_of_delete(_stored(port_id, node), revision_number)
            if outcome.leave:
                version = node.version if node else None
                done = self.nodes.write(path, outcome.leave.to_json(), version)
            elif outcome.remove and node:
                done = self.nodes.delete(path, node.version)
            else:
                done = True
            if done:
                return outcome.deleted

    def port_ids(self) -> Iterator[str]:
        """The ids of all ports that have a record, malformed ones included, in order."""
        return (port_id for port_id, _ in self.records())

    def records(self) -> Iterator[tuple[str, PortRecord | MalformedRecord]]:
        """All ports that have a record, in order, without a round trip for each."""
        for port_id, node in self._ports():
            state = _stored(port_id, node)
            if isinstance(state, PortRecord | MalformedRecord):
                yield port_id, state

    def sweep(self, older_than: float) -> int:
        """Remove the tombstones written more than `older_than` seconds ago; returns how many."""
        before = time.time() - older_than
        return sum(
            self.nodes.delete(layout.port_path(port_id), node.version)
            for port_id, node in self._ports()
            if node.changed < before and isinstance(_stored(port_id, node), Tombstone)
        )

    def follow(self, listener: Listener) -> Follower:
        """Start to follow ports, none of them at first."""
        return self.nodes.follow(PORTS, listener)

    def read_document(self, path: str) -> Document | None:
        """A document, None if there is none."""
        node = self.nodes.read(path)
        return Document(node.data, node.version) if node else None

    def write_document(self, path: str, data: bytes, version: int | None) -> bool:
        """Write a document if it is still of that version, or with None if there is none yet.

        Returns:
            Whether it was written; if not, somebody else was faster: read it again and decide anew.
        """
        return self.nodes.write(path, _of_size(path, data), version)

    def delete_document(self, path: str, version: int) -> bool:
        """Delete a document if it is still of that version, and not that of a live announcer."""
        return self.nodes.delete(path, version)

    def is_world_readable(self, path: str) -> bool:
        """Whether a document can be read by anybody who can connect; not if there is none."""
        return self.nodes.is_world_readable(path)

    def document_names(self, path: str) -> list[str]:
        """The nodes below a path, in order; `layout.name_of` says whose document each has."""
        return self.nodes.children(path)

    def follow_document(self, path: str, listener: DocumentListener) -> DocumentFollower:
        """Tell a listener the document as it is, soon, and whenever it differs."""
        follower = self.nodes.follow(DOCUMENTS, lambda _, data: listener(data))
        follower.set_ports([path])
        return follower

    def announce(self, path: str, data: bytes) -> Announcement:
        """Write a document, and be seen to be alive until closed or dead. Does not block.

        Whoever announces is the only one to write that path: what stood there is replaced.
        """
        return self.nodes.announce(path, _of_size(path, data))

    def announced(self, path: str) -> list[Announced]:
        """What is announced below a path, in order of names, also by those that are dead."""
        paths = [f"{path}/{name}" for name in self.nodes.children(path)]
        alive = self.nodes.alive(paths)
        found = zip(paths, self.nodes.read_many(paths), strict=True)
        return [
            Announced(
                layout.name_of(each.rpartition("/")[2]), node.data, node.changed, each in alive
            )
            for each, node in found
            if node
        ]

    def announced_at(self, path: str) -> Announced | None:
        """What is announced at one path, None if nothing is; the others' nodes are not read."""
        node = self.nodes.read(path)
        if node is None:
            return None
        name = layout.name_of(path.rpartition("/")[2])
        return Announced(name, node.data, node.changed, path in self.nodes.alive([path]))

    def lock(self, name: str, *, wait: float | None = 0.0) -> AbstractContextManager[bool]:
        """Be the only one, of all processes on all machines, to hold the lock of that name.

        A context manager that yields whether the lock is held. It is not when somebody else still
        has it after `wait` seconds (None: for as long as it takes). In ZooKeeper whoever loses the
        session loses the lock without being told, so what is done under it must be safe to do
        twice: it saves work and is no protection.

        Args:
            name: letters, digits, ".", "-" and "_".
            wait: seconds.
        """
        return self.nodes.lock(layout.lock_path(name), wait)

    def close(self) -> None:
        """Close all followers and announcements, and let go of everything."""
        self.nodes.close()

    def _put(self, record: PortRecord, decide: Callable[[Stored], PutOutcome]) -> bool:
        path = layout.port_path(record.port_id)
        while True:
            node = self.nodes.read(path)
            outcome = decide(_stored(record.port_id, node))
            if outcome is not PutOutcome.WRITE:
                return outcome is PutOutcome.SAME
            if self.nodes.write(path, record.to_json(), node.version if node else None):
                return True

    def _ports(self) -> Iterator[tuple[str, Node]]:
        """All ports' nodes in order. A shard's are read at once, so that much is in memory."""
        for shard in self.nodes.children(layout.PORTS):
            port_ids = list(filter(is_port_id, self.nodes.children(layout.shard_path(shard))))
            nodes = self.nodes.read_many([layout.port_path(port_id) for port_id in port_ids])
            for port_id, node in zip(port_ids, nodes, strict=True):
                if node:
                    yield port_id, node


def _stored(port_id: str, node: Node | None) -> Stored:
    return stored(port_id, node.data if node else None)


def _of_size(path: str, data: bytes) -> bytes:
    if len(data) > MAX_DOCUMENT:
        raise StoreError(f"{path}: {len(data)} bytes, more than the {MAX_DOCUMENT} allowed")
    return data
