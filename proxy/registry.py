"""The guests' connections: counted per port, found by address.

Belongs to the event loop's thread and lives as long as the worker.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from ovs_metadata.proxy.identity import Entry


class Registered(Protocol):
    """What the registry asks of a connection."""

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        """The entry behind the connection's address changed."""


ConnectionT = TypeVar("ConnectionT", bound=Registered)


class ConnectionRegistry(Generic[ConnectionT]):
    """Counts connections by port (all addresses together), or by address if no port is known."""

    def __init__(self) -> None:
        self._by_address: defaultdict[str, set[ConnectionT]] = defaultdict(set)
        self._counted_as: dict[ConnectionT, tuple[str, str]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, connection: ConnectionT, *, address: str, entry: Entry | None) -> int:
        """Add a connection; return how many its port has now, itself included."""
        key = address if entry is None else entry.port_id
        self._by_address[address].add(connection)
        self._counted_as[connection] = (address, key)
        self._counts[key] += 1
        return self._counts[key]

    def remove(self, connection: ConnectionT) -> None:
        """Forget a connection; one that was never added is no error."""
        address, key = self._counted_as.pop(connection, (None, None))
        if address is None or key is None:
            return
        self._by_address[address].discard(connection)
        if not self._by_address[address]:
            del self._by_address[address]
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(self._counted_as)

    def __iter__(self) -> Iterator[ConnectionT]:
        """Go through a copy, so that connections may leave meanwhile."""
        return iter(list(self._counted_as))

    def identity_changed(self, address: str, before: Entry | None, now: Entry | None) -> None:
        """Tell every connection of an address; a listener of the identity table."""
        for connection in list(self._by_address.get(address, ())):
            connection.identity_changed(before, now)
