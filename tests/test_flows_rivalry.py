"""How soon to put back flows that another program deletes."""

import pytest

from ovs_metadata.flows.rivalry import CALM, FIRST, MAX_DELAY, ROUND, Rivalry


def test_what_is_deleted_once_is_put_back_at_once() -> None:
    assert Rivalry().lost(100.0) == 0.0


def test_all_that_is_deleted_at_once_is_put_back_together() -> None:
    rivalry = Rivalry()
    assert [rivalry.lost(100.0 + part * ROUND / 4) for part in range(4)] == [0.0] * 4
    again = 100.0 + ROUND
    assert rivalry.lost(again) == pytest.approx(FIRST)
    assert 0.0 < rivalry.lost(again + FIRST / 2) < FIRST
    assert rivalry.lost(again + FIRST + ROUND / 2) == 0.0


def test_a_rival_that_goes_on_deleting_keeps_us_ever_less_busy() -> None:
    rivalry, now, delays = Rivalry(), 100.0, []
    for _ in range(12):
        delays.append(rivalry.lost(now))
        now += delays[-1] + ROUND
    assert delays[:4] == pytest.approx([0.0, FIRST, 2 * FIRST, 4 * FIRST])
    assert delays[-1] == pytest.approx(MAX_DELAY)


def test_after_a_calm_time_flows_are_put_back_at_once_again() -> None:
    rivalry, now = Rivalry(), 100.0
    for _ in range(5):
        now += rivalry.lost(now) + ROUND
    now += rivalry.lost(now) + CALM
    assert rivalry.lost(now) == 0.0


def test_how_long_flows_are_away_is_known_while_a_rival_deletes_them() -> None:
    rivalry, now = Rivalry(), 100.0
    assert rivalry.absence(now) == 0.0
    for _ in range(5):
        now += rivalry.lost(now) + ROUND
    assert rivalry.absence(now) == pytest.approx(8 * FIRST)
    assert rivalry.absence(now + CALM) == 0.0
