"""Confirmations: whether the identity table is no older than a request.

The table follows its sources with a delay. A request may come in by an ofport that has just become
another port's, and the table may not know it yet. So an answer waits for a confirmation that the
agent begins after the request has arrived: it says that the table holds everything that the sources
had committed by then. One confirmation is under way at a time, and serves all requests that arrived
before it began.

Belongs to the event loop's thread. Lives as long as the worker.
"""

from collections.abc import Callable
from typing import Protocol

TIMEOUT = 2.0
"""Seconds an answer waits for its confirmation. Then the guest gets a 503."""


class Waiter(Protocol):
    """A connection with an answer that waits."""

    def confirmed(self) -> None:
        """The confirmation that it waits for has come."""


class Confirmations:
    """Numbers the confirmations. A request's ticket is the number of the one it needs.

    Args:
        ask: asks the agent for a confirmation. None: the table has no source that could be ahead
            of it (a file), and every request is confirmed as it arrives.
    """

    def __init__(self, ask: Callable[[], None] | None = None) -> None:
        self._ask = ask
        self._asked = 0
        self._come = 0
        self._another = False
        self._waiting: dict[Waiter, int] = {}

    def ticket(self) -> int:
        """Return the ticket of a request that has just arrived, and see to its confirmation."""
        if self._ask is None:
            return 0
        if self._asked > self._come:
            # The one under way may have begun before this request arrived.
            self._another = True
            return self._asked + 1
        return self._ask_for_next()

    def is_confirmed(self, ticket: int) -> bool:
        """Whether a ticket's confirmation has come."""
        return ticket <= self._come

    def wait(self, ticket: int, waiter: Waiter) -> None:
        """Call ``waiter.confirmed()`` when a ticket's confirmation comes."""
        self._waiting[waiter] = ticket

    def forget(self, waiter: Waiter) -> None:
        """Do not call this one any more."""
        self._waiting.pop(waiter, None)

    def come(self) -> None:
        """Take the agent's confirmation, and begin another if requests have arrived meanwhile.

        Raises:
            ValueError: none is under way.
        """
        if self._asked == self._come:
            raise ValueError("a confirmation came that was not asked for")
        self._come = self._asked
        if self._another:
            self._another = False
            self._ask_for_next()
        ready = [waiter for waiter, ticket in self._waiting.items() if self.is_confirmed(ticket)]
        for waiter in ready:
            # One of them may have ended another's connection.
            if self._waiting.pop(waiter, None) is not None:
                waiter.confirmed()

    def _ask_for_next(self) -> int:
        if self._ask is None:
            raise ValueError("there is nobody to ask")
        self._asked += 1
        self._ask()
        return self._asked
