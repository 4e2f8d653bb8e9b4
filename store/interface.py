"""What a store does, whatever it is made of. Implementations: `directory` and `zookeeper`.

A store is safe to use from several threads. It starts its threads itself, all of them daemons, and
ends them in `close`. Writers are few (publisher, operator); followers are many, one or two per
hypervisor, and follow only the ports of their own host.
"""

from collections.abc import Callable, Collection, Iterator
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


class Follower(Protocol):
    """Keeps a listener informed about a set of ports."""

    def set_ports(self, port_ids: Collection[str]) -> None:
        """Follow these ports and no others.

        Once this returns the listener is not called for any other port. What is no port id (an
        OVS interface may carry anything in iface-id) is told as having no record.
        """

    def close(self) -> None:
        """Stop. Once this returns the listener is not called again."""


class Store(Protocol):
    """Port records by port id. Port ids are UUIDs in lower case with dashes.

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

    def delete(self, port_id: str, revision_number: int | None = None) -> bool:
        """Delete a record, but not one newer than `revision_number` if that is given.

        Returns:
            Whether a record was deleted.
        """

    def port_ids(self) -> Iterator[str]:
        """The ids of all ports that have a record, malformed ones included, in order."""

    def follow(self, listener: Listener) -> Follower:
        """Start to follow ports, none of them at first."""

    def close(self) -> None:
        """Close all followers and let go of everything."""
