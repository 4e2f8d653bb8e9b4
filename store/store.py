"""The store: records and documents on a tree of nodes, in ZooKeeper or in a directory.

Several threads may use it; it has none itself. The threads of followers and announcements are
daemons and end in `close`. Writers are few (publisher, operator); followers are many, one or two
per hypervisor, and follow only the ports of their own host.

Every decision is a compare-and-set: read a node, decide by a pure function
(`ovs_metadata.store.revision`), write if the node has not changed, or else begin again.
"""

from __future__ import annotations

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
    StoredState,
)
from ovs_metadata.store.network import NetworkOptions
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
from ovs_metadata.store.security import ServerCertificate


class Store:
    """Port records by port id, documents by path, and announcements.

    Port ids are UUIDs in lower case with dashes. Paths are made by `ovs_metadata.store.layout`.
    A document has up to 64 KiB of any content.

    Every method but `close` may raise StoreUnavailable, UnknownLayout, or StoreError for any other
    failure (permissions, for example).

    Args:
        nodes: the tree, in ZooKeeper or in a directory. The store closes it.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def get(self, port_id: str) -> PortRecord:
        """The record of a port.

        Raises:
            RecordNotFound: there is none.
            MalformedRecord: there is one that cannot be used.
        """
        found = self.state(port_id)
        if isinstance(found, PortRecord):
            return found
        raise found or RecordNotFound(port_id)

    def state(self, port_id: str) -> StoredState:
        """The state of a port: its record, None if there is none, or why it is unusable."""
        node = self.nodes.read(layout.port_path(port_id)) if is_port_id(port_id) else None
        found = _stored(port_id, node)
        return None if isinstance(found, Tombstone) else found

    def put(self, record: PortRecord, *, force: bool = False) -> bool:
        """Store a record unless the stored one wins: compare-and-set on the revision.

        A higher revision wins, and of different records of the same revision the stored one. With
        `force` this record wins over everything.

        Returns:
            Whether the store now holds exactly this record.
        """
        return self._put(record, lambda stored: outcome_of_put(stored, record, force=force))

    def undelete(self, record: PortRecord) -> bool:
        """Store a record as `put` does, also over the tombstone of a mistaken removal.

        The tombstone of a deletion, of MAX_REVISION, still wins.

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
        for port_id, node in self._sharded(layout.PORTS):
            state = _stored(port_id, node)
            if isinstance(state, (PortRecord, MalformedRecord)):
                yield port_id, state

    def network(self, network_id: str) -> NetworkOptions | None:
        """The metadata options of a network; None if no document has any."""
        return _network(network_id, self.nodes.read(layout.network_path(network_id)))

    def put_network(self, network: NetworkOptions, *, force: bool = False) -> bool:
        """Store the options of a network, by the rules of `put`.

        Returns:
            Whether the store now holds exactly these.
        """
        path = layout.network_path(network.network_id)
        while True:
            node = self.nodes.read(path)
            found = _network(network.network_id, node)
            outcome = outcome_of_put(found, network, force=force)
            if outcome is not PutOutcome.WRITE:
                return outcome is PutOutcome.SAME
            if self.nodes.write(path, network.to_json(), node.version if node else None):
                return True

    def networks(self) -> Iterator[tuple[str, NetworkOptions | None]]:
        """The networks that have a document, in order; None for one that cannot be used."""
        for network_id, node in self._sharded(layout.NETWORKS):
            yield network_id, _network(network_id, node)

    def sweep(self, older_than: float) -> int:
        """Remove what only keeps late updates out, if it is older than `older_than` seconds.

        That is the tombstones of ports, and the documents of networks without an option. Returns
        how many were removed.
        """
        before = time.time() - older_than
        tombstones = sum(
            self.nodes.delete(layout.port_path(port_id), node.version)
            for port_id, node in self._sharded(layout.PORTS)
            if node.changed < before and isinstance(_stored(port_id, node), Tombstone)
        )
        return tombstones + sum(
            self.nodes.delete(layout.network_path(network_id), node.version)
            for network_id, node in self._sharded(layout.NETWORKS)
            if node.changed < before and _has_no_option(_network(network_id, node))
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
            Whether it was written; if not, another writer was faster: read it and decide again.
        """
        return self.nodes.write(path, _of_size(path, data), version)

    def delete_document(self, path: str, version: int) -> bool:
        """Delete a document if it is still of that version, and has no live announcer."""
        return self.nodes.delete(path, version)

    def is_world_readable(self, path: str) -> bool:
        """Whether every client that can connect can read a document; False if there is none."""
        return self.nodes.is_world_readable(path)

    def document_names(self, path: str) -> list[str]:
        """The nodes below a path, in order; `layout.name_of` gives the name of each document."""
        return self.nodes.children(path)

    def follow_document(self, path: str, listener: DocumentListener) -> DocumentFollower:
        """Call a listener with the document: soon, and after every change."""
        follower = self.follow_documents(lambda _, data: listener(data))
        follower.set_ports([path])
        return follower

    def follow_documents(self, listener: Callable[[str, bytes | None], None]) -> Follower:
        """Start to follow documents by their paths, none of them at first; see `follow`."""
        return self.nodes.follow(DOCUMENTS, listener)

    def announce(self, path: str, data: bytes) -> Announcement:
        """Write a document that shows as alive until `close` or the process's end; does not block.

        The announcer is the only writer of the path, and replaces earlier content.
        """
        return self.nodes.announce(path, _of_size(path, data))

    def announced(self, path: str) -> list[Announced]:
        """The announcements below a path, in order of names, dead ones included."""
        paths = [f"{path}/{name}" for name in self.nodes.children(path)]
        alive = self.nodes.alive(paths)
        found = zip(paths, self.nodes.read_many(paths))
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
        """Hold the lock of that name, exclusively among all processes on all machines.

        A context manager that yields whether the lock is held. It is not if another process still
        has it after `wait` seconds (None: no limit). In ZooKeeper a process that loses its session
        loses the lock unnoticed. So the lock saves work and protects nothing: work under it must be
        safe to do twice.

        Args:
            name: letters, digits, ".", "-" and "_".
            wait: seconds.
        """
        return self.nodes.lock(layout.lock_path(name), wait)

    def disconnected_for(self) -> float:
        """Seconds since the connection was lost, 0 while there is one. Does not block."""
        return self.nodes.disconnected_for()

    def server_certificate(self) -> ServerCertificate | None:
        """The certificate that the server of the last connection over TLS showed. Does not block.

        None if there was none yet, or the store is a directory.
        """
        return self.nodes.server_certificate()

    def close(self) -> None:
        """Close all followers and announcements, and the connection."""
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

    def _sharded(self, root: str) -> Iterator[tuple[str, Node]]:
        """All nodes below the shards of a root, in order; one shard is in memory at a time."""
        for shard in self.nodes.children(root):
            where = f"{root}/{shard}"
            names = list(filter(is_port_id, self.nodes.children(where)))
            nodes = self.nodes.read_many([f"{where}/{name}" for name in names])
            for name, node in zip(names, nodes):
                if node:
                    yield name, node


def _network(network_id: str, node: Node | None) -> NetworkOptions | None:
    try:
        return NetworkOptions.from_json(network_id, node.data) if node else None
    except ValueError:
        return None


def _has_no_option(network: NetworkOptions | None) -> bool:
    return network is not None and not network.tags


def _stored(port_id: str, node: Node | None) -> Stored:
    return stored(port_id, node.data if node else None)


def _of_size(path: str, data: bytes) -> bytes:
    if len(data) > MAX_DOCUMENT:
        raise StoreError(f"{path}: {len(data)} bytes, more than the {MAX_DOCUMENT} allowed")
    return data
