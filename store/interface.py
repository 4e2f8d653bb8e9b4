"""The values that a store returns, and the contracts of its followers and announcements."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Optional, Protocol, Union

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
    "BoundElsewhere",
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
    "StoredState",
    "UnknownLayout",
]


@dataclass(frozen=True)
class BoundElsewhere:
    """A port that belongs to another hypervisor at present, even if it is plugged in here, too."""

    record: PortRecord


StoredState = Union[PortRecord, MalformedRecord, None]
"""The state of a port in the store; None means that it has no record."""

PortState = Union[StoredState, BoundElsewhere]
"""The state of a port, from any source of records."""

Listener = Callable[[str, PortState], None]
"""Called with a port's id and its present state.

One thread of the store calls it, one call at a time: with the state of a port soon after it is
followed, and with each state that differs from the previous call. It may skip states in between.
During an outage there is no call, and the last state stays valid; afterwards it reports the
changes. The listener should return soon and raise nothing; the store logs its exceptions.
"""

FatalCallback = Callable[[StoreError], None]
"""Called once, from a thread of the store, with the reason why a follower has stopped for good."""


DocumentListener = Callable[[Optional[bytes]], None]
"""Called with a document's present content, None if there is none; see `Listener`."""


@dataclass(frozen=True)
class Document:
    """A document as it was read; `version` is for `write_document` and `delete_document` alone."""

    data: bytes
    version: int

    def __repr__(self) -> str:
        """Without the content, which may be secret."""
        return f"Document(<{len(self.data)} bytes>, version={self.version})"


@dataclass(frozen=True)
class Announced:
    """An announcement below a path.

    changed: time of the last update, in seconds since 1970. alive: whether the announcer is.
    """

    name: str
    data: bytes
    changed: float
    alive: bool


class Announcement(Protocol):
    """An entry that is alive as long as its announcer is."""

    def update(self, data: bytes) -> None:
        """Replace the content. Does not block, and retries through an outage."""

    def close(self) -> None:
        """End the announcement. Its last content stays until it is deleted."""


class DocumentFollower(Protocol):
    """Keeps a listener informed about one document."""

    def close(self) -> None:
        """Stop. Once this returns the listener is not called again."""


class Follower(Protocol):
    """Keeps a listener informed about a set of ports."""

    def set_ports(self, port_ids: Collection[str]) -> None:
        """Follow these ports and no others.

        Once this returns the listener is not called for any other port. A text that is no port id
        (an OVS interface may have any iface-id) is reported as a port without a record.
        """

    confirms_cheaply: bool
    """Whether `confirm` stays on this machine."""

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """Call back once the listener has everything that was written before this call.

        Any thread may call it; it does not block. The follower's thread calls back: at once while
        there is no connection to the store, because then nothing newer can be known; and not after
        `close`.
        """

    def close(self) -> None:
        """Stop. Once this returns the listener is not called again."""
