"""What the soak test calls right, late and wrong."""

import math

import pytest

from lab.load.identity_ledger import NOTICE, Answer, Ledger, judge, parse_answer


def _answer(body: str, sent: float, received: float, guest: str = "one") -> Answer:
    return Answer(guest, "200", "ipv4-new", sent, received, body)


@pytest.fixture
def ledger() -> Ledger:
    """Guest one is A until 10, and B from 9; guest two is C."""
    ledger = Ledger()
    ledger.begins("one", "A", 0)
    ledger.begins("one", "B", 9)
    ledger.ends("one", "A", 10)
    ledger.begins("two", "C", 0)
    return ledger


@pytest.mark.parametrize(
    "answer",
    [
        _answer("A", 1, 2),
        _answer("A", 9.5, 20),
        _answer("B", 9.5, 20),
        _answer("B", 1, 9.1),
        _answer("C", 1, 2, guest="two"),
    ],
)
def test_whom_the_port_had_between_sending_and_receiving_is_right(
    ledger: Ledger, answer: Answer
) -> None:
    assert ledger.lateness(answer) == 0
    verdict = judge(ledger, [answer])
    assert (verdict.answered, verdict.wrong, verdict.late) == (1, (), ())


def test_whom_the_port_had_just_before_is_late(ledger: Ledger) -> None:
    verdict = judge(ledger, [_answer("A", 10 + NOTICE / 2, 11)])
    assert list(verdict.late) == pytest.approx([NOTICE / 2])
    assert not verdict.wrong


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_answer("A", 10.01 + NOTICE, 11), "ceased to be"),
        (_answer("B", 1, 8.9), "no guest"),
        (_answer("C", 1, 2), "which is two"),
        (_answer("A", 1, 2, guest="two"), "which is one"),
        (_answer("D", 1, 2), "no guest"),
        (_answer("A A", 1, 2), "no guest"),
        (_answer("", 1, 2), "no guest"),
    ],
)
def test_all_else_is_wrong(ledger: Ledger, answer: Answer, why: str) -> None:
    assert ledger.lateness(answer) > NOTICE
    assert judge(ledger, [answer]).wrong == (answer,)
    assert why in ledger.explain(answer)


def test_an_instance_that_comes_back_is_right_again(ledger: Ledger) -> None:
    ledger.begins("one", "A", 20)
    ledger.ends("one", "B", 21)
    assert ledger.lateness(_answer("A", 30, 31)) == 0
    assert ledger.lateness(_answer("B", 30, 31)) == 9
    assert ledger.lateness(_answer("A", 12, 13)) == 2


def test_refusals_are_counted_and_never_wrong(ledger: Ledger) -> None:
    refused = [
        Answer("one", "503", "ipv4-new", 1, 2, "not ready"),
        Answer("one", "TimeoutError", "ipv6-kept", 1, 2),
    ]
    verdict = judge(ledger, refused)
    assert (verdict.answered, verdict.refused, verdict.wrong) == (0, 2, ())
    assert verdict.outcomes["503", "ipv4-new"] == 1


def test_who_is_in_no_ledger_is_never_right() -> None:
    assert Ledger().lateness(_answer("A", 1, 2)) == math.inf


def test_a_line_of_the_asker_is_read() -> None:
    assert parse_answer("one", "200 ipv4-new 1.5 2.5 A\n") == _answer("A", 1.5, 2.5)
    assert parse_answer("one", "TimeoutError ipv6-kept 1.0 2.0 \n") == Answer(
        "one", "TimeoutError", "ipv6-kept", 1, 2
    )


@pytest.mark.parametrize("line", ["", "200 ipv4-new 1.5", "200 ipv4-new now then A"])
def test_a_line_cut_short_is_an_error(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        parse_answer("one", line)
