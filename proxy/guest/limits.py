"""The guests' connections by port, and the share of the worker that each port may use.

Belongs to the event loop's thread and lives as long as the worker. The kernel gives all connections
of one port to the same worker, by the agent's program, so the counts here are complete.
"""

import math
import resource
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from ovs_metadata.proxy.control.identity import Entry
from ovs_metadata.proxy.guest.slots import Later, Slots, Waiter


class Member(Waiter, Protocol):
    """A connection, as this module calls it."""

    @property
    def address(self) -> str:
        """The local address."""

    @property
    def unheard_since(self) -> float:
        """When it began to wait for its guest; infinite if a whole request is here."""

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        """Act on a change of the entry of the connection's address."""


Connection = TypeVar("Connection", bound=Member)

PATIENCE = 1.0
"""Seconds that a connection may wait for what the guest sends before it makes way for another one
of its port. A request that is on its way, or a client's next one, takes less."""

SMALL_BODY = 32 * 1024
"""Bytes of a body that is read without a slot: about what the kernel keeps of it anyway."""

_OWN_FILES = 64
"""Descriptors of a worker that are no connections, and a reserve."""


def connection_limit(wanted: int) -> int:
    """Return how many connections there may be: those wanted, or fewer if descriptors are short.

    Each takes a descriptor, and another one while its request is with Nova. So one is always left
    to accept a connection with. Without one, libuv closes each connection that it accepts.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (files - _OWN_FILES) // 2))


FREE_READS = 32
READ_PAUSE = 0.002
"""The number of reads without a whole request that all connections of a port may have in a row, and
the seconds between two reads after them. The input that gathers in the kernel meanwhile is one
read, which costs about as much as a read of a single byte. A body of 1 MiB is some 32 reads."""
_MAX_REST = 0.5
"""Seconds. A port that opens connection after connection does not delay its later ones more."""


class PortLimits(Generic[Connection]):
    """One port's connections, its slots, and its rate of requests.

    A request has a slot once it is whole, so that no request waits for what a guest has yet to
    send. A large body has a slot of the other kind, from its first byte to the end of its request.
    """

    __slots__ = ("bodies", "connections", "name", "read_at", "requests", "tat")

    def __init__(self, name: str, later: Later) -> None:
        self.name = name
        self.connections: set[Connection] = set()
        self.requests: Slots[Connection] = Slots(later)
        self.bodies: Slots[Connection] = Slots(later)
        self.tat = -math.inf
        self.read_at = -math.inf

    def rate_delay(self, now: float, rate: float, burst: int) -> float:
        """Count a request; return 0, or after how many seconds it would be within the rate limit.

        This is the generic cell rate algorithm (GCRA, ITU-T I.371): `tat` is the theoretical
        arrival time of the next request. A request that is refused does not count.
        """
        tat = max(self.tat, now)
        excess = tat - now - (burst - 1) / rate
        # Sums of 1/rate are not exact, and a millionth of a second is no burst.
        if excess > 1e-6:
            return excess
        self.tat = tat + 1 / rate
        return 0.0

    def read_delay(self, now: float) -> float:
        """Count a read without a whole request; return for how long not to read its connection."""
        read_at = max(self.read_at, now - FREE_READS * READ_PAUSE) + READ_PAUSE
        self.read_at = min(read_at, now + _MAX_REST)
        return max(0.0, self.read_at - now)

    def unheard(self, now: float) -> Connection | None:
        """Return the connection that has waited for its guest for longest, and beyond patience."""
        longest = min(self.connections, key=lambda each: each.unheard_since)
        return longest if longest.unheard_since <= now - PATIENCE else None


class ConnectionRegistry(Generic[Connection]):
    """Connections by port (all addresses together), or by address where no port is known."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._ports: dict[str, PortLimits[Connection]] = {}
        self._count = 0

    def add(self, connection: Connection, entry: Entry | None) -> PortLimits[Connection]:
        """Add a connection to its port; return the port."""
        name = connection.address if entry is None else entry.port_id
        port = self._ports.get(name)
        if port is None:
            port = self._ports[name] = PortLimits(name, self._later)
        port.connections.add(connection)
        self._count += 1
        return port

    def remove(self, connection: Connection, port: PortLimits[Connection]) -> None:
        """Remove a connection from its port."""
        port.connections.remove(connection)
        self._count -= 1

    def most_crowded(self) -> PortLimits[Connection]:
        """Return the port with the most connections; there must be a port."""
        return max(self._ports.values(), key=lambda port: len(port.connections))

    def admit(self, limit: int) -> None:
        """Apply another number of a port's slots of either kind."""
        for port in list(self._ports.values()):
            port.requests.admit(limit)
            port.bodies.admit(limit)

    def sweep(self, now: float) -> None:
        """Remove ports that have no connection and whose limits have recovered."""
        for name, port in list(self._ports.items()):
            rested = max(port.tat, port.read_at) <= now
            # A freed slot counts as taken until the end of its pause.
            used = port.connections or port.requests.taken or port.bodies.taken
            if rested and not used:
                del self._ports[name]

    def __len__(self) -> int:
        """Return the number of connections."""
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over a copy, so that connections may leave meanwhile."""
        return iter([each for port in self._ports.values() for each in port.connections])

    def identity_changed(self, address: str, before: Entry | None, now: Entry | None) -> None:
        """Pass a change on to every connection of the address; a listener of the identity table."""
        # A connection that is older than its port's entry is found by its address.
        for name in {address, address if before is None else before.port_id}:
            port = self._ports.get(name)
            for connection in list(port.connections) if port else ():
                if connection.address == address:
                    connection.identity_changed(before, now)
