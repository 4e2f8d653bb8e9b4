"""Looks again at what may be out of step for a moment only, because something has just changed."""

import time
from collections.abc import Callable
from typing import TypeVar

SETTLE = 2.0
"""Seconds for which something may be out of step without being wrong."""

INTERVAL = 0.25
"""Seconds between two looks at it."""

T = TypeVar("T")


def settled(look: Callable[[], T], is_wrong: Callable[[T], bool], *, patient: bool) -> T:
    """Look, and if one is `patient` again, as long as something is wrong; returns what was seen."""
    deadline = time.monotonic() + (SETTLE if patient else 0)
    while True:
        seen = look()
        if not is_wrong(seen) or time.monotonic() >= deadline:
            return seen
        time.sleep(INTERVAL)
