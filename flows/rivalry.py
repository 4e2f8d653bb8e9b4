"""How soon to put back flows that another program deletes: at once, or later and later."""

import math

FIRST = 0.05
MAX_DELAY = 10.0
"""Seconds that flows stay away which are deleted again and again: twice as long each time."""

CALM = 5.0
"""Seconds without a loss after which flows are put back at once again."""


class Rivalry:
    """Slows us down if a rival deletes flows each time we put them back.

    All losses until the switch has the flows again count as one: however busy it is, it reports
    what was deleted at once before that. Times are seconds that only grow.
    """

    def __init__(self) -> None:
        self._delay = 0.0
        self._due = self._calm_at = -math.inf
        self.is_restoring = False
        """Whether flows were lost that the switch does not have again yet, as far as known."""

    def absence(self, now: float) -> float:
        """Seconds for which flows are away each time, as long as a rival deletes them."""
        return self._delay if self.is_restoring or now < self._calm_at else 0.0

    def lost(self, now: float) -> float:
        """A flow was deleted behind our back: seconds until it is to be put back."""
        if not self.is_restoring:
            again = now < self._calm_at
            self._delay = min(max(2 * self._delay, FIRST), MAX_DELAY) if again else 0.0
            self._due = now + self._delay
            self.is_restoring = True
        return max(0.0, self._due - now)

    def restored(self, now: float) -> None:
        """The switch has been sent the flows, and has carried that out."""
        if self.is_restoring:
            self.is_restoring = False
            self._calm_at = now + CALM
