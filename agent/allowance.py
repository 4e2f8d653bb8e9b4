"""How often something may happen: at once, and in the long run. Pure arithmetic on times."""


class Allowance:
    """A token bucket: `at_once` tokens when full, filled by `per_second`."""

    def __init__(self, at_once: int, per_second: float, now: float) -> None:
        """Make a full one; times are in seconds, of any clock that does not go back."""
        self._at_once = at_once
        self._per_second = per_second
        self._tokens = float(at_once)
        self._filled = now

    def take(self, now: float) -> bool:
        """Take a token; False if there is none."""
        grown = self._tokens + (now - self._filled) * self._per_second
        self._tokens = min(float(self._at_once), grown)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
