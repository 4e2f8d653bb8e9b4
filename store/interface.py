"""What is read from a store, and what its followers and announcements promise."""

from collections.abc import Callable, Collection
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
