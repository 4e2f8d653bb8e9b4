"""Logs a problem when it begins and when it has ended, however often it is found.

A loop that tries again finds the same problem each time; an operator reads it once. A `ProblemLog`
belongs to one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable


class ProblemLog:
    """The problems of one thing, as they were last found."""

    def __init__(
        self, logger: logging.Logger, line: str, solved: str = "", *, level: int = logging.WARNING
    ) -> None:
        """Make it, without a problem.

        Args:
            logger: where to log.
            line: the log line; a problem replaces its `%s`.
            solved: what is logged, as INFO, when all problems have ended; empty for nothing.
            level: of `line`.
        """
        self._logger = logger
        self._line = line
        self._solved = solved
        self._level = level
        self._problems: frozenset[str] = frozenset()

    def found(self, problems: Iterable[str] = ()) -> None:
        """Log the problems that were not found the last time; none means that all have ended."""
        found = frozenset(problems)
        for problem in sorted(found - self._problems):
            self._logger.log(self._level, self._line, problem)
        if self._solved and self._problems and not found:
            self._logger.info(self._solved)
        self._problems = found
