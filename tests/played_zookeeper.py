"""What clients that play ZooKeeper's part answer with, as kazoo's do."""

from collections.abc import Callable
from typing import Any


class Late(Exception):
    """The answer has not come in time."""


class Result:
    """An answer that is made when it is awaited."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def get(self, timeout: float) -> Any:
        """The answer; a request without a time limit is a mistake."""
        assert timeout
        return self._act()
