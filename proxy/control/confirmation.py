"""Confirmations: whether the identity table is no older than a request.

The table follows its sources with a delay. An ofport may have become another port's a moment before
a request arrives by it, and the table may not have the change yet. So a response waits for a
confirmation that the agent begins after the request has arrived: with it, the table has every
change that the sources had committed by then.

One confirmation runs at a time, and serves all requests that arrived before it began. So each
begins as late as it can (`best_delay`): in time to be back before Nova's response, and at once
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
"""How many of the last responses and confirmations `best_delay` considers."""


def best_delay(responses: Collection[float], confirmations: Collection[float]) -> float:
    """Return how many seconds a confirmation may wait after a request is sent to Nova.

    The estimate of the next response is the quickest of the last ones. The estimate of the
    confirmation is twice the mean of the last ones: on a busy machine one in many takes long, and
    must not make confirmations more frequent. If an estimate is wrong, a response waits for its
    confirmation.

    Args:
        responses: seconds that Nova took for the last responses.
        confirmations: seconds that the last confirmations took.
    """
    if not responses or not confirmations:
        return 0.0
    mean = sum(confirmations) / len(confirmations)
    return max(0.0, min(responses) - 2 * mean - TIMER_ERROR)


class Timer(Protocol):
    """The result of `Later`."""

    def cancel(self) -> None:
        """Cancel the call."""


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls a function after so many seconds, as the event loop's `call_later` does. 0 means: after the
events that are ready now."""


def _call_later(seconds: float, function: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, function)


class Confirmations:
    """Numbers the confirmations. A request's ticket is the number of the confirmation it needs.

    Args:
        ask: asks the agent for a confirmation. None: the table comes from a file, which cannot be
            ahead of it, and every request is confirmed at once.
        later: schedules a call on the event loop.
    """

    def __init__(self, ask: Callable[[], None] | None = None, later: Later = _call_later) -> None:
        self._ask = ask
        self._later = later
        self._asked = 0  # the number of confirmations that have begun
        self._come = 0
        self._begun = 0.0  # when the last one began
        self._timer: Timer | None = None  # for the next one, since the first request that needs it
        self._urgent = False  # the next one begins as soon as none is running
        self._waiting: dict[Callable[[], None], int] = {}
        self._responses: deque[float] = deque(maxlen=REMEMBERED_RESPONSES)
        self._confirmations: deque[float] = deque(maxlen=REMEMBERED_CONFIRMATIONS)

    def ticket(self) -> int:
        """Return the ticket of a request to Nova, and schedule its confirmation."""
        if self._ask is None:
            return 0
        if self._timer is None:
            self._timer = self._later(best_delay(self._responses, self._confirmations), self._due)
        # A running confirmation may have begun before this request arrived.
        return self._asked + 1

    def answered(self, seconds: float) -> None:
        """Record how many seconds Nova took for a response."""
        self._responses.append(seconds)

    def is_confirmed(self, ticket: int) -> bool:
        """Whether a ticket's confirmation has arrived."""
        return ticket <= self._come

    def wait(self, ticket: int, confirmed: Callable[[], None]) -> None:
        """Call ``confirmed`` when a ticket's confirmation arrives; make it urgent."""
        self._waiting[confirmed] = ticket
        if ticket > self._asked and not self._urgent:
            self._urgent = True
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._later(0, self._due)

    def forget(self, confirmed: Callable[[], None]) -> None:
        """Do not call this function any more."""
        self._waiting.pop(confirmed, None)

    def come(self) -> None:
        """Take the agent's confirmation, and begin another if it is due.

        Raises:
            ValueError: none was asked for.
        """
        if self._asked == self._come:
            raise ValueError("an unsolicited confirmation arrived")
        self._come = self._asked
        self._confirmations.append(monotonic() - self._begun)
        if self._urgent:
            self._due()
        ready = [each for each, ticket in self._waiting.items() if self.is_confirmed(ticket)]
        for confirmed in ready:
            # One of them may have closed another's connection.
            if self._waiting.pop(confirmed, None) is not None:
                confirmed()

    def _due(self) -> None:
        """Begin the next confirmation, now or after the running one."""
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
