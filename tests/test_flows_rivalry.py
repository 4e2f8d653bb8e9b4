"""How soon to put back flows that another program deletes."""

import pytest

from ovs_metadata.flows.rivalry import CALM, FIRST, MAX_DELAY, Rivalry


def fight(rivalry: Rivalry, rounds: int, now: float = 100.0) -> tuple[list[float], float]:
    """The delays, if a rival deletes flows as soon as they are back; and the time then."""
    delays = []
    for _ in range(rounds):
        delays.append(rivalry.lost(now))
        now += delays[-1] + 0.01
        rivalry.restored(now)
    return delays, now


def test_what_is_deleted_once_is_put_back_at_once() -> None:
    assert Rivalry().lost(100.0) == 0.0


def test_all_that_is_deleted_until_the_flows_are_back_counts_once_however_long_it_takes() -> None:
    rivalry = Rivalry()
    assert [rivalry.lost(100.0 + seconds) for seconds in (0.0, 0.1, 2.0)] == [0.0] * 3
    rivalry.restored(102.0)
    assert rivalry.lost(102.1) == pytest.approx(FIRST)
    assert 0.0 < rivalry.lost(102.1 + FIRST / 2) < FIRST
    assert rivalry.lost(102.1 + 2 * FIRST) == 0.0


def test_a_rival_that_goes_on_deleting_keeps_us_ever_less_busy() -> None:
    delays, _ = fight(Rivalry(), 12)
    assert delays[:4] == pytest.approx([0.0, FIRST, 2 * FIRST, 4 * FIRST])
    assert delays[-1] == pytest.approx(MAX_DELAY)


def test_after_a_calm_time_flows_are_put_back_at_once_again() -> None:
    rivalry = Rivalry()
    _, now = fight(rivalry, 5)
    rivalry.restored(now + CALM)  # nothing was lost since
    assert rivalry.lost(now + CALM) == 0.0


def test_how_long_flows_are_away_is_known_while_a_rival_deletes_them() -> None:
    rivalry = Rivalry()
    assert rivalry.absence(100.0) == 0.0
    _, now = fight(rivalry, 5)
    assert rivalry.absence(now) == pytest.approx(8 * FIRST)
    assert rivalry.absence(now + CALM) == 0.0
    rivalry.lost(now + CALM - 1)
    assert rivalry.absence(now + 2 * CALM) == pytest.approx(16 * FIRST)
