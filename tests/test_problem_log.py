"""What is logged of a problem that is found again and again."""

import logging

import pytest

from ovs_metadata.problem_log import ProblemLog

LOGGER = logging.getLogger("of-the-test")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of what was logged since the last call."""
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


def test_a_problem_is_logged_when_it_begins_and_when_all_have_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    problems = ProblemLog(LOGGER, "cannot: %s", "can again", level=logging.ERROR)
    problems.found()
    assert lines(caplog) == []
    problems.found(["full", "broken"])
    assert lines(caplog) == [("ERROR", "cannot: broken"), ("ERROR", "cannot: full")]
    problems.found(["full", "broken"])
    problems.found(["full"])
    assert lines(caplog) == []
    problems.found()
    problems.found()
    assert lines(caplog) == [("INFO", "can again")]
    problems.found(["full"])
    assert lines(caplog) == [("ERROR", "cannot: full")]


def test_the_end_of_a_problem_may_be_no_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    problems = ProblemLog(LOGGER, "cannot: %s")
    problems.found(["100 % full"])
    problems.found()
    assert lines(caplog) == [("WARNING", "cannot: 100 % full")]
