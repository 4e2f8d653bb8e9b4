"""A token bucket."""

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.agent.allowance import Allowance


def test_so_many_at_once_and_then_as_they_come() -> None:
    allowance = Allowance(3, 2.0, 100.0)
    assert [allowance.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [allowance.take(100.6) for _ in range(2)] == [True, False]
    assert [allowance.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_what_is_spent_beyond_what_is_there_has_to_be_filled_first() -> None:
    allowance = Allowance(3, 2.0, 100.0)
    assert allowance.wait(100.0) == 0
    allowance.spend(7, 100.0)
    assert allowance.wait(100.0) == 2.5
    assert not allowance.take(102.0)
    assert allowance.wait(102.0) == 0.5
    assert allowance.take(102.5)


@given(
    at_once=st.integers(1, 20),
    per_second=st.floats(0.1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5))),
)
def test_who_waits_before_spending_never_has_more_than_the_rate_gives(
    at_once: int, per_second: float, steps: list[tuple[float, int]]
) -> None:
    now = 0.0
    allowance = Allowance(at_once, per_second, now)
    spent = 0
    for pause, tokens in steps:
        now += pause
        now += allowance.wait(now)
        assert allowance.wait(now) <= 1e-6
        # Before the last one, which may be paid for later.
        assert spent <= at_once + per_second * now + 1e-3
        allowance.spend(tokens, now)
        spent += tokens
