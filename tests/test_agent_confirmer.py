"""What is asked, and in which order, before the agent confirms."""

import asyncio
from collections.abc import Callable

import pytest

from ovs_metadata.agent import confirmer as module
from ovs_metadata.agent.confirmer import Confirmer
from ovs_metadata.agent.ovsdb_probe import OvsdbProbe


class Probe(OvsdbProbe):
    """Says whether something has changed."""

    def __init__(self, log: list[str], *, changed: bool) -> None:
        super().__init__("", {})
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


def test_beyond_a_burst_confirmations_have_a_pause_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BURST", 3)
    monkeypatch.setattr(module, "RATE", 0.001)
    log: list[str] = []

    async def scenario() -> None:
        confirmer = Confirmer(Sources(log, store=False), Probe(log, changed=False), lambda: None)
        for _ in range(10):
            confirmer.confirm(lambda: None)

    asyncio.run(scenario())
    assert log == ["probe"] * 4  # the one of the rate, and the burst
