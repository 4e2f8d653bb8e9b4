"""The guests' connections by port, and the share of the worker that each port may use.

Belongs to the event loop's thread and lives as long as the worker. The kernel gives all connections
of one port to the same worker, by the agent's program, so the counts here are complete.
"""

import math
import resource
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeAlias, TypeVar

from ovs_metadata.proxy.control.identity import Entry


class Member(Protocol):
    """A connection, as this module calls it."""

    @property
    def address(self) -> str:
        """The local address."""

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        """Act on a change of the entry of the connection's address."""

    def slot_granted(self) -> None:
        """Begin the request that waited for a slot."""


Connection = TypeVar("Connection", bound=Member)

Later: TypeAlias = Callable[[Callable[[], None]], object]
"""Calls a function after the pause before a slot is granted."""


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
    """One port's connections, its requests in flight, and its rate of requests."""

    __slots__ = ("_later", "connections", "in_flight", "name", "read_at", "tat", "waiting")

    def __init__(self, name: str, later: Later) -> None:
        self.name = name
        self._later = later
        self.connections: set[Connection] = set()
        self.in_flight = 0
        self.waiting: deque[Connection] = deque()
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

    def acquire_slot(self, connection: Connection, limit: int) -> bool:
        """Take a slot if fewer than ``limit`` are taken; otherwise queue the connection."""
        if self.in_flight < limit:
            self.in_flight += 1
            return True
        self.waiting.append(connection)
        return False

    def release_slot(self, limit: int) -> None:
        """Free a slot; after a pause, grant it to the first connection in the queue.

        The pause keeps a port that asks as fast as it can from occupying the worker.
        """
        if self.waiting and self.in_flight <= limit:
            self._later(self._grant_slot)
        else:
            self.in_flight -= 1

    def _grant_slot(self) -> None:
        if self.waiting:
            self.waiting.popleft().slot_granted()
        else:
            self.in_flight -= 1

    def admit(self, limit: int) -> None:
        """Grant the slots that a raised limit adds."""
        while self.waiting and self.in_flight < limit:
            self.in_flight += 1
            self.waiting.popleft().slot_granted()

    def leave_queue(self, connection: Connection) -> None:
        """Remove a connection from the queue."""
        self.waiting.remove(connection)


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
        """Apply another limit of a port's requests in flight."""
        for port in list(self._ports.values()):
            port.admit(limit)

    def sweep(self, now: float) -> None:
        """Remove ports that have no connection and whose limits have recovered."""
        for name, port in list(self._ports.items()):
            rested = max(port.tat, port.read_at) <= now
            if rested and not port.connections and not port.in_flight:
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
