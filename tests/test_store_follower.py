"""When a follower reads, confirms and ends, on a store that is played."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contracts.store_support import StateRecorder, record

from lab.rig.process import wait_for
from ovs_metadata.store.errors import StoreError, UnknownLayout
from ovs_metadata.store.follower import ThreadedFollower
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.node_type import PORTS

FIRST, SECOND = record(1), record(2)


class Played(ThreadedFollower[PortState]):
    """Reads when it is woken, and finds what the test has set before."""

    confirms_cheaply = True

    def __init__(self, fatal: list[StoreError]) -> None:
        self.received = StateRecorder()
        super().__init__(PORTS, self._received, fatal.append)
        self.added: list[set[str]] = []
        self.to_read: set[str] = set()
        self.close_when_called = False
        self.will_catch_up = self.has_caught_up = True
        self.failure: UnknownLayout | None = None
        self.problems: set[str] = set()
        self.reads = 0
        self._thread.start()

    def _added(self, keys: set[str]) -> None:
        self.added.append(keys)
        self.to_read |= keys

    def _pause(self) -> float | None:
        return None

    def _catch_up(self) -> bool:
        return self.will_catch_up

    def _caught_up(self) -> bool:
        return self.has_caught_up

    def _read(self) -> set[str]:
        self.reads += 1
        if self.failure:
            raise self.failure
        while self.to_read:
            key = self.to_read.pop()
            stored = {each.port_id: each for each in (FIRST, SECOND)}.get(key)
            self._listener_state.report(key, stored.to_json() if stored else None)
        return self.problems

    def _received(self, port_id: str, state: PortState) -> None:
        self.received(port_id, state)
        if self.close_when_called:
            self.close()

    def read_again(self) -> None:
        """Have it read, and wait until a read that begins after this call has ended."""
        for _ in range(2):
            before = self.reads
            self._wake.set()
            wait_for(lambda before=before: self.reads > before, "a read")  # type: ignore[misc]

    def ended(self) -> bool:
        return not self._thread.is_alive()


@pytest.fixture
def fatal() -> list[StoreError]:
    return []


@pytest.fixture
def follower(fatal: list[StoreError]) -> Iterator[Played]:
    follower = Played(fatal)
    yield follower
    follower.close()
    assert follower.ended()


def test_what_is_added_is_read_and_what_was_there_is_not_read_again(follower: Played) -> None:
    follower.set_ports([FIRST.port_id])
    wait_for(lambda: follower.received.calls, "the first state")
    follower.set_ports([FIRST.port_id, SECOND.port_id])
    assert follower.added == [{FIRST.port_id}, {SECOND.port_id}]
    wait_for(lambda: len(follower.received.calls) == 2, "the second state")
    assert follower.received.calls == [(FIRST.port_id, FIRST), (SECOND.port_id, SECOND)]


@pytest.mark.parametrize(
    ("will_catch_up", "has_caught_up"), [(True, False), (False, True), (False, False)]
)
def test_a_confirmation_waits_until_a_read_that_was_begun_later_has_read_everything(
    follower: Played, will_catch_up: bool, has_caught_up: bool
) -> None:
    confirmed: list[bool] = []
    follower.will_catch_up, follower.has_caught_up = will_catch_up, has_caught_up
    follower.confirm(lambda: confirmed.append(True))
    follower.read_again()
    assert not confirmed

    follower.will_catch_up = follower.has_caught_up = True
    follower.read_again()
    wait_for(lambda: confirmed, "the confirmation")
    assert not follower._unconfirmed.qsize()


def test_problems_are_logged_once_and_so_is_their_end(
    follower: Played, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    follower.problems = {"no access to /ports"}
    follower.read_again()
    assert len(caplog.messages) == 1
    follower.problems = set()
    follower.read_again()
    wait_for(lambda: len(caplog.messages) > 1, "the line of its end")
    assert caplog.messages == [
        "no access to /ports; the last known data stays in use",
        "the store can be read again",
    ]


def test_a_layout_of_an_unknown_version_ends_it(
    follower: Played, fatal: list[StoreError], caplog: pytest.LogCaptureFixture
) -> None:
    follower.failure = UnknownLayout("the store has layout 99")
    follower._wake.set()
    wait_for(follower.ended, "the end of the thread")
    assert fatal == [follower.failure]
    assert caplog.messages == ["the store has layout 99"]


def test_a_listener_may_close_it(fatal: list[StoreError]) -> None:
    follower = Played(fatal)
    follower.close_when_called = True
    follower.set_ports([FIRST.port_id, SECOND.port_id])
    wait_for(follower.ended, "the end of the thread")
    assert len(follower.received.calls) == 1
