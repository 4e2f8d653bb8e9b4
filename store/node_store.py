"""The store: records and documents on a tree of nodes. No threads of its own.

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
from ovs_metadata.store.kind import DOCUMENTS, PORTS
from ovs_metadata.store.nodes import Node, Nodes
from ovs_metadata.store.record import MAX_DOCUMENT, PortRecord, is_port_id
from ovs_metadata.store.revision import (
    Outcome,
    Stored,
    Tombstone,
    outcome_of_delete,
    outcome_of_put,
    outcome_of_undelete,
    stored,
)


class NodeStore:
    """A `Store` on `nodes`, which it closes."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def get(self, port_id: str) -> PortRecord:
        """See `Store`."""
        node = self.nodes.read(layout.port_path(port_id)) if is_port_id(port_id) else None
        match _stored(port_id, node):
            case PortRecord() as record:
                return record
            case MalformedRecord() as malformed:
                raise malformed
            case _:
                raise RecordNotFound(port_id)

    def put(self, record: PortRecord, *, force: bool = False) -> bool:
        """See `Store`."""
        return self._put(record, lambda stored: outcome_of_put(stored, record, force=force))

    def undelete(self, record: PortRecord) -> bool:
        """See `Store`."""
        return self._put(record, lambda stored: outcome_of_undelete(stored, record))

    def delete(self, port_id: str, revision_number: int | None = None) -> bool:
        """See `Store`."""
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
        """See `Store`."""
        return (port_id for port_id, _ in self.records())

    def records(self) -> Iterator[tuple[str, PortRecord | MalformedRecord]]:
        """See `Store`."""
        for port_id, node in self._ports():
            state = _stored(port_id, node)
            if isinstance(state, PortRecord | MalformedRecord):
                yield port_id, state

    def sweep(self, older_than: float) -> int:
        """See `Store`."""
        before = time.time() - older_than
        return sum(
            self.nodes.delete(layout.port_path(port_id), node.version)
            for port_id, node in self._ports()
            if node.changed < before and isinstance(_stored(port_id, node), Tombstone)
        )

    def follow(self, listener: Listener) -> Follower:
        """See `Store`."""
        return self.nodes.follow(PORTS, listener)

    def read_document(self, path: str) -> Document | None:
        """See `Store`."""
        node = self.nodes.read(path)
        return Document(node.data, node.version) if node else None

    def write_document(self, path: str, data: bytes, version: int | None) -> bool:
        """See `Store`."""
        return self.nodes.write(path, _of_size(path, data), version)

    def delete_document(self, path: str, version: int) -> bool:
        """See `Store`."""
        return self.nodes.delete(path, version)

    def is_open(self, path: str) -> bool:
        """See `Store`."""
        return self.nodes.is_open(path)

    def document_names(self, path: str) -> list[str]:
        """See `Store`."""
        return self.nodes.children(path)

    def follow_document(self, path: str, listener: DocumentListener) -> DocumentFollower:
        """See `Store`."""
        follower = self.nodes.follow(DOCUMENTS, lambda _, data: listener(data))
        follower.set_ports([path])
        return follower

    def announce(self, path: str, data: bytes) -> Announcement:
        """See `Store`."""
        return self.nodes.announce(path, _of_size(path, data))

    def announced(self, path: str) -> list[Announced]:
        """See `Store`."""
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

    def lock(self, name: str, *, wait: float | None = 0.0) -> AbstractContextManager[bool]:
        """See `Store`."""
        return self.nodes.lock(layout.lock_path(name), wait)

    def close(self) -> None:
        """See `Store`."""
        self.nodes.close()

    def _put(self, record: PortRecord, decide: Callable[[Stored], Outcome]) -> bool:
        path = layout.port_path(record.port_id)
        while True:
            node = self.nodes.read(path)
            outcome = decide(_stored(record.port_id, node))
            if outcome is not Outcome.WRITE:
                return outcome is Outcome.SAME
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
