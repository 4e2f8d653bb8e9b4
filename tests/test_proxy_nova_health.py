"""Which endpoint is asked, for every order of events."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.proxy.nova.health import (
    PROBE_INTERVAL,
    Health,
    doubted,
    failed,
    is_due,
    is_probe_due,
    passed,
    reached,
    trial_order,
    tried,
)

INTERVAL = 5.0
TIMES = st.integers(min_value=0, max_value=1000).map(float)
ERRORS = st.sampled_from(["refused", "timed out"])

HEALTHS = st.builds(
    Health,
    healthy=st.booleans(),
    known=st.just(value=True),
    since=TIMES,
    last_error=ERRORS,
    tried_at=TIMES,
    trial_at=TIMES | st.just(math.inf),
)


@given(st.lists(HEALTHS, min_size=1, max_size=6), st.none() | st.integers(0, 5))
def test_every_endpoint_is_tried_once_the_healthy_first_and_else_in_order(
    healths: list[Health], last: int | None
) -> None:
    order = trial_order(healths, last=last)
    assert sorted(order) == list(range(len(healths)))
    well = [healths[index].healthy for index in order]
    assert well == sorted(well, reverse=True)
    for earlier, later in itertools.pairwise(order):
        assert earlier < later or healths[earlier].healthy > healths[later].healthy or later == last
        assert earlier != last or healths[earlier].healthy > healths[later].healthy


@given(HEALTHS, ERRORS, TIMES, st.integers(0, 20))
def test_one_that_failed_is_tried_again_after_the_interval(
    health: Health, error: str, now: float, later: int
) -> None:
    after = failed(tried(health, now=now), error, now=now, retry_interval=INTERVAL)
    assert not after.healthy
    assert after.last_error == error
    assert after.since == (now if health.healthy else health.since)
    assert is_due(after, now=now + later) == (later >= INTERVAL)
    # Requests that fail meanwhile do not put it off.
    again = failed(after, error, now=now + 1, retry_interval=INTERVAL)
    assert is_due(again, now=now + later) == (later >= INTERVAL)
    # While one request tries it, no other does.
    assert not is_due(tried(after, now=now + INTERVAL), now=math.nextafter(math.inf, 0))


@given(HEALTHS, st.lists(st.integers(0, 3), max_size=20))
def test_a_doubt_changes_nothing_but_the_time_of_the_trial(
    health: Health, pauses: list[int]
) -> None:
    now, trials = health.tried_at, []
    for pause in pauses:
        now += pause
        after = doubted(health, now=now, retry_interval=INTERVAL)
        assert (after.healthy, after.since) == (health.healthy, health.since)
        health = after
        if is_due(health, now=now):
            trials.append(now)
            health = passed(tried(health, now=now), now=now)
    # The first may have been due before.
    assert all(later - earlier >= INTERVAL for earlier, later in itertools.pairwise(trials))


@given(HEALTHS, TIMES)
def test_one_that_passes_its_trial_is_well_and_has_none_ahead(health: Health, now: float) -> None:
    after = passed(health, now=now)
    assert after.healthy
    assert after.since == (health.since if health.healthy else now)
    assert after.last_error == health.last_error
    assert not is_due(after, now=math.nextafter(math.inf, 0))


@given(TIMES, st.floats(0, 1))
def test_an_endpoint_is_known_by_a_connection_since_then(now: float, chance: float) -> None:
    assert not Health().known
    after = reached(Health(), now=now, chance=chance)
    assert (after.known, after.healthy, after.since) == (True, True, now)
    assert failed(Health(), "refused", now=now, retry_interval=INTERVAL).known
    assert passed(Health(), now=now).since == now


@given(HEALTHS, TIMES, st.floats(0, 1), st.integers(0, 100))
def test_a_healthy_endpoint_without_requests_is_probed_now_and_then(
    health: Health, now: float, chance: float, later: int
) -> None:
    after = reached(health, now=now, chance=chance)
    assert (after.healthy, after.since) == (health.healthy, health.since)
    due = is_probe_due(after, now=now + later, answered_at=-math.inf)
    assert due == (health.healthy and later >= PROBE_INTERVAL * (0.5 + chance))
    # An endpoint that answers requests needs none.
    assert not is_probe_due(after, now=now + later, answered_at=now + later - 1)
