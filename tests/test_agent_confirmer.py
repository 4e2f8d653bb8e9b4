"""What is asked, and in which order, before the agent confirms."""

import asyncio
from collections.abc import Callable

import pytest

from ovs_metadata.agent import confirmer as module
from ovs_metadata.agent.confirmer import Confirmer
from ovs_metadata.agent.ovsdb_session import OvsdbSession


class Probe(OvsdbSession):
    """Says whether something has changed."""

    def __init__(self, log: list[str], *, changed: bool) -> None:
        super().__init__("", {}, lambda: None)
        self._log = log
        self.changed = changed

    def ask(self, on_answer: Callable[[bool], None]) -> None:
        self._log.append("probe")
        on_answer(self.changed)

    def seen(self) -> None:
        self._log.append("seen")
        self.changed = False


class Sources:
    """Confirm as soon as they are asked."""

    def __init__(self, log: list[str], *, store: bool) -> None:
        self._log = log
        self._store = store

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        self._log.append("all sources")
        on_confirmed()

    def confirm_store(self, on_confirmed: Callable[[], None]) -> None:
        self._log.append("store")
        on_confirmed()

    def needs_store(self) -> bool:
        return self._store


def confirmed(*, changed: bool = False, store: bool = False, times: int = 1) -> list[str]:
    """What happens on the way to so many confirmations."""
    log: list[str] = []

    async def scenario() -> None:
        probe = Probe(log, changed=changed)
        confirmer = Confirmer(Sources(log, store=store), probe, lambda: log.append("apply"))
        for _ in range(times):
            done = asyncio.Event()
            confirmer.confirm(done.set)
            async with asyncio.timeout(10):
                await done.wait()

    asyncio.run(scenario())
    return log


def test_if_nothing_has_changed_the_probe_suffices() -> None:
    assert confirmed() == ["probe", "apply"]


def test_after_a_change_the_replica_is_asked_and_the_probe_counts_from_before_that() -> None:
    # What changes while the replica is asked must not be lost, so it is seen first.
    assert confirmed(changed=True) == ["probe", "seen", "all sources", "apply"]
    assert confirmed(changed=True, times=2)[4:] == ["probe", "apply"]


def test_the_store_is_asked_where_it_is_needed() -> None:
    assert confirmed(store=True) == ["probe", "store", "apply"]


@pytest.mark.parametrize(
    ("changed", "store", "at_once"), [(False, False, 21), (True, False, 12), (False, True, 3)]
)
def test_beyond_what_may_be_spent_confirmations_have_a_pause_between_them(
    changed: bool, store: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 21)
    monkeypatch.setattr(module, "PER_SECOND", 0.001)
    log: list[str] = []

    async def scenario() -> None:
        probe = Probe(log, changed=changed)
        confirmer = Confirmer(Sources(log, store=store), probe, lambda: None)
        for _ in range(40):
            confirmer.confirm(lambda: None)

    asyncio.run(scenario())
    assert log.count("probe") == at_once  # (1 of the replica and then 11 by the probe)


def test_a_pause_is_as_long_as_what_was_spent_takes_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    monkeypatch.setattr(module, "PER_SECOND", 50)
    times: list[float] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        confirmer = Confirmer(Sources([], store=True), Probe([], changed=False), lambda: None)
        for _ in range(3):
            done = asyncio.Event()
            confirmer.confirm(done.set)
            async with asyncio.timeout(10):
                await done.wait()
            times.append(loop.time())

    asyncio.run(scenario())
    price = module.DEARER_PRICE / 50
    assert times[1] - times[0] > 0.9 * price
    assert times[2] - times[0] > 1.9 * price
