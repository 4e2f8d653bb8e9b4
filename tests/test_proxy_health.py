"""Which endpoint is asked, for every order of events."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.proxy.health import Health, accepted, failed, is_due, trial_order, tried

INTERVAL = 5.0
TIMES = st.floats(min_value=0, max_value=1000)
ERRORS = st.sampled_from(["refused", "timed out"])

HEALTHS = st.builds(
    Health,
    healthy=st.booleans(),
    since=TIMES,
    last_error=ERRORS,
    connects=st.booleans(),
    retry_at=TIMES,
)


@given(st.lists(HEALTHS, min_size=1, max_size=6))
def test_every_endpoint_is_tried_once_the_healthy_first_and_else_in_order(
    healths: list[Health],
) -> None:
    order = trial_order(healths)
    assert sorted(order) == list(range(len(healths)))
    well = [healths[index].healthy for index in order]
    assert well == sorted(well, reverse=True)
    for earlier, later in itertools.pairwise(order):
        assert earlier < later or healths[earlier].healthy > healths[later].healthy


@given(HEALTHS, ERRORS, TIMES, st.booleans(), st.floats(min_value=0, max_value=20))
def test_one_that_failed_is_left_alone_for_the_interval_and_no_longer(
    health: Health, error: str, now: float, connected: bool, later: float
) -> None:
    after = failed(health, error, now=now, retry_interval=INTERVAL, connected=connected)
    assert not after.healthy
    assert after.last_error == error
    assert after.since == (now if health.healthy else health.since)
    assert is_due(after, now=now + later) == (now + later >= now + INTERVAL)
    # While it is being tried again, nobody else tries.
    again = tried(after, now=now + INTERVAL, retry_interval=INTERVAL)
    assert not is_due(again, now=now + INTERVAL)


@given(HEALTHS, TIMES)
def test_a_healthy_one_is_never_due(health: Health, now: float) -> None:
    assert health.healthy <= (not is_due(health, now=now))


@given(HEALTHS, TIMES, st.booleans())
def test_one_that_accepts_again_is_well(health: Health, now: float, on_trial: bool) -> None:
    down = failed(health, "refused", now=now, retry_interval=INTERVAL, connected=False)
    well = accepted(down, now=now + 1, on_trial=on_trial)
    assert well.healthy
    assert well.since == now + 1
    assert well.last_error == "refused"
    assert accepted(well, now=now + 2) == well


@given(HEALTHS, TIMES)
def test_one_that_answers_nonsense_is_not_well_just_because_it_accepts(
    health: Health, now: float
) -> None:
    bad = failed(health, "not HTTP", now=now, retry_interval=INTERVAL, connected=True)
    assert accepted(bad, now=now + 1) == bad
    assert accepted(bad, now=now + INTERVAL, on_trial=True).healthy
