"""How often something may happen: at once, and in the long run. Pure arithmetic on times."""


class Allowance:
    """A token bucket: `at_once` tokens when full, filled by `per_second`.

    Times are in seconds, of any clock that does not go back.
    """

    def __init__(self, at_once: int, per_second: float, now: float) -> None:
        """Make a full one."""
        self._at_once = at_once
        self._per_second = per_second
        self._tokens = float(at_once)
        self._filled = now

    def take(self, now: float) -> bool:
        """Take a token; False if there is none."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def spend(self, tokens: int, now: float) -> None:
        """Take tokens whether they are there or not. What is missing has to be filled first."""
        self._fill(now)
        self._tokens -= tokens

    def wait(self, now: float) -> float:
        """Return how many seconds it takes until there is a token."""
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self._per_second)

    def _fill(self, now: float) -> None:
        grown = self._tokens + (now - self._filled) * self._per_second
        self._tokens = min(float(self._at_once), grown)
        self._filled = now
