"""Reads again what may be wrong for a moment only, because something has just changed."""

import time
from collections.abc import Callable
from typing import TypeVar

RETRY_FOR = 2.0
"""Seconds for which something may look wrong and become right by itself."""

INTERVAL = 0.25
"""Seconds between two readings."""

T = TypeVar("T")


def retry_while_wrong(
    facts: T, read: Callable[[], T], is_wrong: Callable[[T], bool], *, patient: bool
) -> T:
    """Read again as long as something is wrong and may become right; return the last facts.

    Args:
        facts: what was read first.
        read: reads the same again.
        is_wrong: judges what was read.
        patient: whether anything may become right by itself.
    """
    deadline = time.monotonic() + RETRY_FOR
    while patient and is_wrong(facts) and time.monotonic() < deadline:
        time.sleep(INTERVAL)
        facts = read()
    return facts
