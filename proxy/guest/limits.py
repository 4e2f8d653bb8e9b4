"""The guests' connections by port, and what a port may use of the worker.

Belongs to the event loop's thread and lives as long as the worker. All connections of one port
meet in the same worker (the agent has the kernel see to it), so what is counted here is the whole.
"""

import math
import resource
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeAlias, TypeVar

from ovs_metadata.proxy.control.identity import Entry


class Member(Protocol):
    """A connection, as its port's limits and the registry call it."""

    @property
    def address(self) -> str:
        """The peer address."""

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        """The entry behind the connection's address changed."""

    def slot_granted(self) -> None:
        """The connection's request, which waited for a slot, has one."""


Connection = TypeVar("Connection", bound=Member)

Later: TypeAlias = Callable[[Callable[[], None]], object]
"""Calls a function after the pause between two turns."""


_OWN_FILES = 64
"""Descriptors that a worker has for other things than connections, and some to spare."""


def connection_limit(wanted: int) -> int:
    """Return how many connections there may be: those wanted, or fewer if files do not suffice.

    Each takes a descriptor, and one more while Nova is asked. So there always is one to accept a
    connection with. To be out of them is worse: libuv then closes whatever is accepted.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (files - _OWN_FILES) // 2))


FREE_READS = 32
READ_PAUSE = 0.002
"""So many reads that bring no whole request may a port's connections have in a row, all together,
and from then on one every so many seconds. What gathers in the kernel meanwhile is one read, which
costs about as much as one of a single byte. A body of 1 MiB is some 32 reads."""
_MAX_REST = 0.5
"""Seconds. A port that opens connection after connection does not put off its later ones more."""


class PortLimits(Generic[Connection]):
    """One port's connections, the requests it has under way, and how fast it asks."""

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
        """Count a request; return 0, or in how many seconds it would be within the rate limit.

        A token bucket kept as the one moment at which it is full again (the generic cell rate
        algorithm, ITU-T I.371). A request that is refused is not counted.
        """
        tat = max(self.tat, now)
        excess = tat - now - (burst - 1) / rate
        # Sums of 1/rate are not exact, and a millionth of a second is nobody's burst.
        if excess > 1e-6:
            return excess
        self.tat = tat + 1 / rate
        return 0.0

    def read_delay(self, now: float) -> float:
        """Count a read without a whole request; return for how long its connection is not read."""
        read_at = max(self.read_at, now - FREE_READS * READ_PAUSE) + READ_PAUSE
        self.read_at = min(read_at, now + _MAX_REST)
        return max(0.0, self.read_at - now)

    def acquire_slot(self, connection: Connection, limit: int) -> bool:
        """Begin a request if fewer than ``limit`` are under way; else it waits for its turn."""
        if self.in_flight < limit:
            self.in_flight += 1
            return True
        self.waiting.append(connection)
        return False

    def release_slot(self, limit: int) -> None:
        """End a request; after a pause its turn goes to who waits longest, within ``limit``.

        The pause is what keeps a port that asks as fast as it can from having the worker to itself.
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
        """Give turns to those who wait, as many as a limit that has been raised allows."""
        while self.waiting and self.in_flight < limit:
            self.in_flight += 1
            self.waiting.popleft().slot_granted()

    def leave_queue(self, connection: Connection) -> None:
        """Wait no longer."""
        self.waiting.remove(connection)


class ConnectionRegistry(Generic[Connection]):
    """Connections by port (all addresses together), or by address where no port is known."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._ports: dict[str, PortLimits[Connection]] = {}
        self._count = 0

    def add(self, connection: Connection, entry: Entry | None) -> PortLimits[Connection]:
        """Add a connection; return its port, itself included."""
        name = connection.address if entry is None else entry.port_id
        port = self._ports.get(name)
        if port is None:
            port = self._ports[name] = PortLimits(name, self._later)
        port.connections.add(connection)
        self._count += 1
        return port

    def remove(self, connection: Connection, port: PortLimits[Connection]) -> None:
        """Forget a connection."""
        port.connections.remove(connection)
        self._count -= 1

    def most_crowded(self) -> PortLimits[Connection]:
        """The port that has the most connections; there must be one."""
        return max(self._ports.values(), key=lambda port: len(port.connections))

    def admit(self, limit: int) -> None:
        """Act on another limit of the requests a port may have under way."""
        for port in list(self._ports.values()):
            port.admit(limit)

    def sweep(self, now: float) -> None:
        """Forget ports that have no connection and have not asked for a while."""
        for name, port in list(self._ports.items()):
            rested = max(port.tat, port.read_at) <= now
            if rested and not port.connections and not port.in_flight:
                del self._ports[name]

    def __len__(self) -> int:
        """Return the number of connections."""
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        """Go through a copy, so that connections may leave meanwhile."""
        return iter([each for port in self._ports.values() for each in port.connections])

    def identity_changed(self, address: str, before: Entry | None, now: Entry | None) -> None:
        """Tell every connection of an address; a listener of the identity table."""
        # A connection that was there before its port was known is found by its address.
        for name in {address, address if before is None else before.port_id}:
            port = self._ports.get(name)
            for connection in list(port.connections) if port else ():
                if connection.address == address:
                    connection.identity_changed(before, now)
