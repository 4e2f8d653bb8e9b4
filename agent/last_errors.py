"""The last errors that the agent logged, for the status page and for its announcement."""

import logging
from collections import deque
from dataclasses import dataclass

import ovs_metadata
from ovs_metadata.utc import utc

MAX_ERRORS = 10
MAX_ERROR = 500
"""How many errors are remembered, and characters of each."""


@dataclass(frozen=True, slots=True)
class LoggedError:
    """An error as logged; `time` is in seconds since the epoch."""

    time: float
    message: str

    def __str__(self) -> str:
        return f"{utc(self.time)} {self.message}"[:MAX_ERROR]


class LastErrors(logging.Handler):
    """Remembers the last errors that this package logged, from any thread; the latest first."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: deque[LoggedError] = deque(maxlen=MAX_ERRORS)

    def start(self) -> None:
        """Begin to remember."""
        logging.getLogger(ovs_metadata.__name__).addHandler(self)

    def close(self) -> None:
        """Remember no more."""
        logging.getLogger(ovs_metadata.__name__).removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Remember an error."""
        self.errors.appendleft(LoggedError(record.created, record.getMessage()[:MAX_ERROR]))

    @property
    def latest(self) -> str:
        """The latest error with its time; empty if there was none."""
        return str(self.errors[0]) if self.errors else ""
