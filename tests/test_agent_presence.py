"""What an agent says of itself in the store, also when the store fails meanwhile."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.rig.process import until
from ovs_metadata.agent import presence as agent_liveness
from ovs_metadata.agent.presence import Presence, Status
from ovs_metadata.host import config
from ovs_metadata.store import open_store
from ovs_metadata.store.interface import Announced
from ovs_metadata.store.layout import AGENTS
from ovs_metadata.store.store import Store

DEADLINE = 20.0


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_liveness, "INTERVAL", 0.01)


def _make(directory: Path, store: Store, ports: Callable[[], int] = lambda: 1) -> Presence:
    file = directory / "agent.conf"
    file.write_text("[agent]\nhost = h\n")
    return Presence(config.load(file), store, lambda: Status(True, "g", ports()))


def _announced(store: Store) -> list[Announced]:
    return list(store.announced(AGENTS))


def test_what_an_agent_says_is_there_until_it_ends(tmp_path: Path) -> None:
    store = open_store(f"directory:{tmp_path}/store")

    async def scenario() -> None:
        served = 1
        presence = _make(tmp_path, store, lambda: served)
        await until(lambda: bool(_announced(store)))
        served = 2
        await until(lambda: json.loads(_announced(store)[0].data)["ports_served"] == 2)
        assert _announced(store)[0].alive
        await presence.close()
        assert not _announced(store)[0].alive

    asyncio.run(scenario())
    store.close()


def test_a_store_that_fails_is_complained_of_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "store"
    store = open_store(f"directory:{place}")
    place.write_text("in the way of the directory")
    attempts = 0

    def ports() -> int:
        nonlocal attempts
        attempts += 1
        return 1

    async def scenario() -> None:
        presence = _make(tmp_path, store, ports)
        await until(lambda: attempts > 5)
        place.unlink()
        await until(lambda: place.exists() and bool(_announced(store)))
        await presence.close()

    asyncio.run(scenario())
    store.close()
    assert caplog.text.count("cannot announce the agent's status") == 1


def test_the_event_loop_does_not_wait_for_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"directory:{tmp_path}/store")
    used_by: list[threading.Thread] = []
    announce = store.announce

    def noted(path: str, data: bytes) -> object:
        used_by.append(threading.current_thread())
        return announce(path, data)

    monkeypatch.setattr(store, "announce", noted)

    async def scenario() -> None:
        presence = _make(tmp_path, store)
        await until(lambda: bool(used_by))
        await presence.close()

    asyncio.run(scenario())
    store.close()
    assert threading.main_thread() not in used_by


class Written:
    """An announcement that notes what it is given."""

    def __init__(self, first: bytes) -> None:
        self.data = [first]

    def update(self, data: bytes) -> None:
        self.data.append(data)

    def close(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize(("longest", "again"), [(0.03, True), (3600.0, False)])
def test_without_news_the_same_is_announced_again_after_the_longest_interval_only(
    longest: float, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_liveness, "MAX_INTERVAL", longest)
    store = open_store(f"directory:{tmp_path}/store")
    written: list[Written] = []
    looks = 0

    def announce(_: str, data: bytes) -> Written:
        written.append(Written(data))
        return written[-1]

    def ports() -> int:
        nonlocal looks
        looks += 1
        return 1

    monkeypatch.setattr(store, "announce", announce)

    async def scenario() -> None:
        presence = _make(tmp_path, store, ports)
        await until(lambda: looks > 30 and (not again or len(written[0].data) > 3))
        await presence.close()

    asyncio.run(scenario())
    store.close()
    (only,) = written
    assert len(set(only.data)) == 1
    assert again or len(only.data) == 1
