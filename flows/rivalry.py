"""How soon to put back flows that another program deletes: at once, or later and later."""

import math

FIRST = 0.05
MAX_DELAY = 10.0
"""Seconds that flows stay away which are deleted again and again: twice as long each time."""

ROUND = 0.05
"""Seconds in which the switch reports what was deleted at once."""

CALM = 5.0
"""Seconds without a loss after which flows are put back at once again."""


class Rivalry:
    """Slows us down if a rival deletes flows each time we put them back."""

    def __init__(self) -> None:
        self._delay = 0.0
        self._due = self._round_ends = self._calm_at = -math.inf

    def absence(self, now: float) -> float:
        """Seconds for which flows are away each time, as long as a rival deletes them."""
        return self._delay if now < self._calm_at else 0.0

    def lost(self, now: float) -> float:
        """A flow was deleted behind our back: seconds until it is to be put back.

        `now` is a time in seconds that only grows.
        """
        if now >= self._round_ends:
            again = now < self._calm_at
            self._delay = min(max(2 * self._delay, FIRST), MAX_DELAY) if again else 0.0
            self._due = now + self._delay
            self._round_ends = self._due + ROUND
            self._calm_at = self._due + CALM
        return max(0.0, self._due - now)
