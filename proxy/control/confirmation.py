"""Confirmations: whether the identity table is no older than a request.

The table follows its sources with a delay. A request may come in by an ofport that has just become
another port's, and the table may not know it yet. So a response waits for a confirmation that the
agent begins after the request has arrived: it says that the table holds everything that the sources
had committed by then.

One confirmation is under way at a time, and serves all requests that arrived before it began. So
each begins as late as it can (`patience`): in time to be back before Nova's response, and at once
if a response waits for it.

Belongs to the event loop's thread. Lives as long as the worker.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from time import monotonic
from typing import Protocol

TIMEOUT = 2.0
"""Seconds a response waits for its confirmation. Then the guest gets a 503."""

TIMER_ERROR = 0.001
"""Seconds by which the event loop's timers may be late: it counts in milliseconds."""

REMEMBERED_RESPONSES = 32
REMEMBERED_CONFIRMATIONS = 16
"""How many of the last ones `patience` looks at."""


def patience(responses: Collection[float], confirmations: Collection[float]) -> float:
    """Return how many seconds a confirmation may be put off after a request has gone to Nova.

    The next response is expected to take no less than the quickest of the last ones, and the
    confirmation no more than twice as long as the last ones did on average: on a busy machine one
    in many takes long, and confirmations shall not be made more often for it. An error costs an
    response the wait for a confirmation.

    Args:
        responses: how long Nova took for the last ones, in seconds.
        confirmations: how long the last ones took, in seconds.
    """
    if not responses or not confirmations:
        return 0.0
    mean = sum(confirmations) / len(confirmations)
    return max(0.0, min(responses) - 2 * mean - TIMER_ERROR)


class Waiter(Protocol):
    """A connection with a response that waits."""

    def confirmed(self) -> None:
        """The confirmation that it waits for has come."""


class Timer(Protocol):
    """What `Later` returns."""

    def cancel(self) -> None:
        """Do not call any more."""


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls a function after so many seconds, as the event loop's `call_later` does. With 0 it does so
once everything that is ready now has been looked at."""


def _call_later(seconds: float, function: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, function)


class Confirmations:
    """Numbers the confirmations. A request's ticket is the number of the one it needs.

    Args:
        ask: asks the agent for a confirmation. None: the table has no source that could be ahead
            of it (a file), and every request is confirmed as it arrives.
        later: has the event loop call.
    """

    def __init__(self, ask: Callable[[], None] | None = None, later: Later = _call_later) -> None:
        self._ask = ask
        self._later = later
        self._asked = 0  # how many have begun
        self._come = 0
        self._begun = 0.0  # when the last one did
        self._timer: Timer | None = None  # of the next one, from the first request that needs it on
        self._urgent = False  # the next one begins as soon as there is none under way
        self._waiting: dict[Waiter, int] = {}
        self._responses: deque[float] = deque(maxlen=REMEMBERED_RESPONSES)
        self._confirmations: deque[float] = deque(maxlen=REMEMBERED_CONFIRMATIONS)

    def ticket(self) -> int:
        """Return the ticket of a request that goes to Nova now, and see to its confirmation."""
        if self._ask is None:
            return 0
        if self._timer is None:
            self._timer = self._later(patience(self._responses, self._confirmations), self._due)
        # One that is under way may have begun before this request arrived.
        return self._asked + 1

    def answered(self, seconds: float) -> None:
        """Note how long Nova took for a response."""
        self._responses.append(seconds)

    def is_confirmed(self, ticket: int) -> bool:
        """Whether a ticket's confirmation has come."""
        return ticket <= self._come

    def wait(self, ticket: int, waiter: Waiter) -> None:
        """Call ``waiter.confirmed()`` when a ticket's confirmation comes: at once, if it can."""
        self._waiting[waiter] = ticket
        if ticket > self._asked and not self._urgent:
            self._urgent = True
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._later(0, self._due)

    def forget(self, waiter: Waiter) -> None:
        """Do not call this one any more."""
        self._waiting.pop(waiter, None)

    def come(self) -> None:
        """Take the agent's confirmation, and begin another if it is due.

        Raises:
            ValueError: none is under way.
        """
        if self._asked == self._come:
            raise ValueError("a confirmation came that was not asked for")
        self._come = self._asked
        self._confirmations.append(monotonic() - self._begun)
        if self._urgent:
            self._due()
        ready = [waiter for waiter, ticket in self._waiting.items() if self.is_confirmed(ticket)]
        for waiter in ready:
            # One of them may have ended another's connection.
            if self._waiting.pop(waiter, None) is not None:
                waiter.confirmed()

    def _due(self) -> None:
        """Begin the next one, or have it begin when the one under way has come."""
        if self._asked > self._come:
            self._urgent = True
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._urgent = False
        self._asked += 1
        self._begun = monotonic()
        if self._ask is not None:
            self._ask()
