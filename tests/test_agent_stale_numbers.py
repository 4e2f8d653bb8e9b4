"""A number is stale from when a port has left it until a revalidation that began later is done."""

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.agent.stale_numbers import StaleNumbers

NONE: frozenset[int] = frozenset()


def is_stale(numbers: StaleNumbers, ofport: int) -> bool:
    return numbers.ofports is None or ofport in numbers.ofports


def test_all_numbers_are_stale_at_first() -> None:
    stale = StaleNumbers()
    assert is_stale(stale, 5)
    stale.done(stale.begin())
    assert stale.ofports == NONE
    assert not is_stale(stale, 5)


def test_a_revalidation_that_began_before_does_not_count() -> None:
    stale = StaleNumbers()
    stale.done(stale.begin())
    number = stale.begin()
    stale.left([5])
    stale.done(number)
    assert is_stale(stale, 5)
    assert not is_stale(stale, 6)
    stale.done(stale.begin())
    assert not is_stale(stale, 5)


def test_numbers_that_are_fresh_again_are_known_once() -> None:
    stale = StaleNumbers()
    stale.done(stale.begin())
    assert stale.take_fresh() == set()  # none was seen to be left
    stale.left([5, 6])
    number = stale.begin()
    stale.left([6])
    stale.done(number)
    assert stale.take_fresh() == {5}
    assert stale.take_fresh() == set()
    stale.done(stale.begin())
    assert stale.take_fresh() == {6}


def test_after_a_time_without_a_look_all_are_stale_again() -> None:
    stale = StaleNumbers()
    stale.done(stale.begin())
    number = stale.begin()
    stale.left(None)
    stale.done(number)
    assert is_stale(stale, 5)
    stale.done(stale.begin())
    assert stale.ofports == NONE


@given(st.lists(st.sampled_from(["left 1", "left 2", "left any", "begin", "done"]), max_size=30))
def test_whatever_happens_no_number_is_fresh_too_early_or_never(events: list[str]) -> None:
    stale = StaleNumbers()
    history: list[str] = ["left any"]
    under_way = 0
    for event in events:
        if event == "begin" and not under_way:
            under_way = stale.begin()
            history.append("begin")
        elif event == "done" and under_way:
            stale.done(under_way)
            under_way = 0
            # Forget what happened before that revalidation began, which it has dealt with.
            history = history[len(history) - history[::-1].index("begin") :]
        elif event.startswith("left"):
            what = event.removeprefix("left ")
            stale.left(None if what == "any" else [int(what)])
            history.append(event)
        for number in (1, 2):
            assert is_stale(stale, number) is bool({f"left {number}", "left any"} & set(history))
        assert (stale.ofports != NONE) is any(each != "begin" for each in history)
