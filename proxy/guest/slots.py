"""The slots that the connections of one port share, and the queue for them.

Belongs to the event loop's thread, and to its port.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeAlias, TypeVar


class Waiter(Protocol):
    """A connection, as this module calls it."""

    def slot_granted(self) -> None:
        """Take the slot that it waited for."""


Connection = TypeVar("Connection", bound=Waiter)

Later: TypeAlias = Callable[[Callable[[], None]], object]
"""Calls a function after the pause before a slot is granted."""


class Slots(Generic[Connection]):
    """Slots of one kind. Their number may change, so each call has the present limit."""

    __slots__ = ("_later", "taken", "waiting")

    def __init__(self, later: Later) -> None:
        self._later = later
        self.taken = 0
        self.waiting: deque[Connection] = deque()

    def acquire(self, connection: Connection, limit: int) -> bool:
        """Take a slot if fewer than ``limit`` are taken; otherwise queue the connection."""
        if self.taken < limit:
            self.taken += 1
            return True
        self.waiting.append(connection)
        return False

    def release(self, limit: int) -> None:
        """Free a slot; after a pause, grant it to the first connection in the queue.

        The pause keeps a port that asks as fast as it can from occupying the worker.
        """
        if self.waiting and self.taken <= limit:
            self._later(self._grant)
        else:
            self.taken -= 1

    def _grant(self) -> None:
        if self.waiting:
            self.waiting.popleft().slot_granted()
        else:
            self.taken -= 1

    def admit(self, limit: int) -> None:
        """Grant the slots that a raised limit adds."""
        while self.waiting and self.taken < limit:
            self.taken += 1
            self.waiting.popleft().slot_granted()

    def leave_queue(self, connection: Connection) -> None:
        """Remove a connection from the queue."""
        self.waiting.remove(connection)
