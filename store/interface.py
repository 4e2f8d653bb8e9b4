"""What a store does, whatever it is made of. Implementations: `directory` and `zookeeper`.

A store is safe to use from several threads. It starts its threads itself, all of them daemons, and
ends them in `close`. Writers are few (publisher, operator); followers are many, one or two per
hypervisor, and follow only the ports of their own host.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ovs_metadata.store.errors import (
    MalformedRecord,
    RecordNotFound,
    StoreError,
    StoreUnavailable,
    UnknownLayout,
)
from ovs_metadata.store.record import PortRecord

__all__ = [
    "Announced",
    "Announcement",
    "Document",
    "DocumentFollower",
    "DocumentListener",
    "FatalCallback",
    "Follower",
    "Listener",
    "MalformedRecord",
    "PortState",
    "RecordNotFound",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "UnknownLayout",
]

PortState = PortRecord | MalformedRecord | None
"""What is known of a port; None means that there is no record of it."""

Listener = Callable[[str, PortState], None]
"""Told a port's id and its present state.

Called from one thread of the store's, one call at a time: with the state of a port soon after it
is followed, and with each state that differs from the one told before. States in between may be
skipped. During an outage nothing is called, the last state told stays true; once it is over what
changed is told. It should return soon and raise nothing; what it raises is logged.
"""

FatalCallback = Callable[[StoreError], None]
"""Told, once and from a thread of the store's, why a follower has given up for good."""


DocumentListener = Callable[[bytes | None], None]
"""Told a document's present content, None if there is none: as promised for `Listener`."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was read; `version` is for nothing but `write_document` and the like."""

    data: bytes
    version: int

    def __repr__(self) -> str:
        """Without the content, which may be secret."""
        return f"Document(<{len(self.data)} bytes>, version={self.version})"


@dataclass(frozen=True, slots=True)
class Announced:
    """What somebody announced below a path.

    changed: when it was said last, in seconds since 1970. alive: whether who said it still lives.
    """

    name: str
    data: bytes
    changed: float
    alive: bool


class Announcement(Protocol):
    """An entry that is alive as long as its maker is."""

    def update(self, data: bytes) -> None:
        """Say this instead. Does not block, and goes on being tried through an outage."""

    def close(self) -> None:
        """Be alive no longer. What was said last stays until it is deleted."""


class DocumentFollower(Protocol):
    """Keeps a listener informed about one document."""

    def close(self) -> None:
        """Stop. Once this returns the listener is not called again."""


class Follower(Protocol):
    """Keeps a listener informed about a set of ports."""

    def set_ports(self, port_ids: Collection[str]) -> None:
        """Follow these ports and no others.

        Once this returns the listener is not called for any other port. What is no port id (an
        OVS interface may carry anything in iface-id) is told as having no record.
        """

    confirms_cheaply: bool
    """Whether `confirm` stays on this machine."""

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """Call back once the listener knows of everything written before this call.

        Any thread may call it; it does not block. The call comes from the follower's thread. While
        there is no connection to the store, what was last known is all there is to know, and the
        call comes at once. It does not come after `close`.
        """

    def close(self) -> None:
        """Stop. Once this returns the listener is not called again."""


class Store(Protocol):
    """Port records by port id, documents by path, and who is there.

    Port ids are UUIDs in lower case with dashes. Paths are made by `ovs_metadata.store.layout`.
    A document is up to 64 KiB of anything.

    Every method but `close` may raise StoreUnavailable, UnknownLayout, or StoreError for what is
    none of these (permissions, for example).
    """

    def get(self, port_id: str) -> PortRecord:
        """The record of a port.

        Raises:
            RecordNotFound: there is none.
            MalformedRecord: there is one that cannot be used.
        """

    def put(self, record: PortRecord, *, force: bool = False) -> bool:
        """Store a record unless one that wins is there already: compare-and-set on the revision.

        A higher revision wins, and of different records of the same revision the stored one. With
        `force` this record wins over everything.

        Returns:
            Whether the store now holds exactly this record.
        """

    def undelete(self, record: PortRecord) -> bool:
        """Store a record as `put` does, also over the tombstone of a removal that was a mistake.

        The tombstone of a port deleted for good, of MAX_REVISION, keeps it out all the same.

        Returns:
            Whether the store now holds exactly this record.
        """

    def delete(self, port_id: str, revision_number: int | None = None) -> bool:
        """Delete a record, but not one newer than `revision_number` if that is given.

        With a revision it leaves a tombstone, also if there was no record: `put` of that or a
        lower revision is outdated from then on. Without, an operator's delete, it leaves nothing.

        Returns:
            Whether a record was deleted.
        """

    def port_ids(self) -> Iterator[str]:
        """The ids of all ports that have a record, malformed ones included, in order."""

    def records(self) -> Iterator[tuple[str, PortRecord | MalformedRecord]]:
        """All ports that have a record, in order, without a round trip for each."""

    def sweep(self, older_than: float) -> int:
        """Remove the tombstones written more than `older_than` seconds ago; returns how many."""

    def follow(self, listener: Listener) -> Follower:
        """Start to follow ports, none of them at first."""

    def read_document(self, path: str) -> Document | None:
        """A document, None if there is none."""

    def write_document(self, path: str, data: bytes, version: int | None) -> bool:
        """Write a document if it is still of that version, or with None if there is none yet.

        Returns:
            Whether it was written; if not, somebody else was faster: read it again and decide anew.
        """

    def delete_document(self, path: str, version: int) -> bool:
        """Delete a document if it is still of that version, and not that of a live announcer."""

    def is_open(self, path: str) -> bool:
        """Whether a document can be read by anybody who can connect; not if there is none."""

    def document_names(self, path: str) -> list[str]:
        """The nodes below a path, in order; `layout.name_of` says whose document each has."""

    def follow_document(self, path: str, listener: DocumentListener) -> DocumentFollower:
        """Tell a listener the document as it is, soon, and whenever it differs."""

    def announce(self, path: str, data: bytes) -> Announcement:
        """Write a document, and be seen to be alive until closed or dead. Does not block.

        Whoever announces is the only one to write that path: what stood there is replaced.
        """

    def announced(self, path: str) -> list[Announced]:
        """What is announced below a path, in order of names, also by those that are dead."""

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

    def close(self) -> None:
        """Close all followers and announcements, and let go of everything."""
