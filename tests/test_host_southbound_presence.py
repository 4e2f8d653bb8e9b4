"""What the agent writes for Neutron's list of agents, and when."""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from ovs_metadata.host.southbound import presence
from ovs_metadata.host.southbound.presence import (
    ID_KEY,
    NUMBER_KEY,
    ChassisPresence,
    refusal,
    to_write,
)


class Database:
    """Takes operations, and answers when the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.sent: list[dict[str, Any]] = []
        self.answer: Callable[[object], None] = lambda _: None
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(random, "uniform", lambda _low, high: high)
        self.presence = ChassisPresence("hv1", self.transact)

    def transact(self, operations: list[dict[str, Any]], done: Callable[[object], None]) -> bool:
        self.sent += operations
        self.answer = done
        return True


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    return Database(monkeypatch)


def test_the_number_is_copied_and_an_identifier_stays() -> None:
    first = to_write("hv1", {}, 7)
    assert first[NUMBER_KEY] == "7"
    assert first == to_write("hv1", {"ovn-cms-options": "x"}, 7)
    assert first[ID_KEY] != to_write("hv2", {}, 7)[ID_KEY]
    assert to_write("hv1", first, 7) == {}
    assert to_write("hv1", first, 8) == {NUMBER_KEY: "8"}
    assert to_write("hv1", {ID_KEY: "neutrons-own", NUMBER_KEY: "8"}, 8) == {}


def test_the_first_number_is_written_at_once_and_later_ones_spread(database: Database) -> None:
    shown = database.presence
    assert shown.update({}, 7) is None
    (operation,) = database.sent
    assert operation["where"] == [["name", "==", "hv1"]]
    assert shown.update({}, 7) is None  # it is under way
    database.answer([{"count": 1}])
    written = to_write("hv1", {}, 7)
    assert shown.update(written, 7) is None
    assert shown.update(written, 8) == pytest.approx(presence.SPREAD)
    assert shown.update(written, 9) == pytest.approx(presence.SPREAD)
    database.now += presence.SPREAD
    assert shown.update(written, 9) is None
    assert database.sent[1]["mutations"][1][2] == ["map", [[NUMBER_KEY, "9"]]]


def test_a_refusal_is_logged_once_for_a_connection(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.presence.update({}, 7)
    database.answer([{"error": "permission error", "details": "RBAC rules"}])
    assert "permission error: RBAC rules" in caplog.text
    database.presence.update({}, 8)
    assert len(database.sent) == 1
    database.presence.connected()
    database.presence.update({}, 8)
    database.now += presence.SPREAD
    database.presence.update({}, 8)
    assert len(database.sent) == 2


def test_a_write_that_a_lost_connection_took_along_is_repeated(database: Database) -> None:
    database.presence.update({}, 7)
    database.answer(None)
    database.presence.update({}, 7)
    assert len(database.sent) == 2


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ([{"count": 1}], ""),
        ([{}, None], ""),
        ([{"error": "not allowed"}], "not allowed: "),
        ("nonsense", "not a list of results: 'nonsense'"),
    ],
)
def test_what_the_server_says(results: object, reason: str) -> None:
    assert refusal(results) == reason
