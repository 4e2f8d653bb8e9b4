"""Connecting by several ways: in which order they begin, which is taken, the fate of the others."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from proxy_support import on_loop, until

from ovs_metadata.proxy.nova.race import first_to_succeed

Attempt = Callable[[], Coroutine[Any, Any, str]]


class Attempts:
    """Attempts whose end the test decides; what was begun, cancelled and thrown away."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.discarded: list[str] = []
        self.ends: dict[str, asyncio.Future[str]] = {}

    def named(self, *names: str) -> list[Attempt]:
        return [self._attempt(name) for name in names]

    def _attempt(self, name: str) -> Attempt:
        self.ends[name] = asyncio.get_running_loop().create_future()

        async def attempt() -> str:
            self.begun.append(name)
            try:
                return await self.ends[name]
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise

        return attempt

    def race(self, *names: str, delay: float) -> asyncio.Task[str]:
        return asyncio.create_task(
            first_to_succeed(self.named(*names), delay=delay, discard=self.discarded.append)
        )


@pytest.mark.parametrize("names", ["a", "ab"])
@on_loop
async def test_one_that_succeeds_in_time_is_the_only_one(names: str) -> None:
    attempts = Attempts()
    race = attempts.race(*names, delay=1000.0)
    await until(lambda: attempts.begun == ["a"])
    attempts.ends["a"].set_result("A")
    assert await race == "A"
    assert attempts.begun == ["a"]


@on_loop
async def test_the_next_begins_as_soon_as_one_fails_and_the_last_error_is_raised() -> None:
    attempts = Attempts()
    race = attempts.race("a", "b", "c", delay=1000.0)
    for name in "abc":
        await until(lambda name=name: attempts.begun[-1:] == [name])  # type: ignore[misc]
        attempts.ends[name].set_exception(OSError(name))
    with pytest.raises(OSError, match="c"):
        await race


@on_loop
async def test_the_first_to_succeed_is_taken_and_the_others_are_cancelled() -> None:
    attempts = Attempts()
    race = attempts.race("a", "b", "c", "d", delay=0.0)
    await until(lambda: attempts.begun == ["a", "b", "c", "d"])
    attempts.ends["d"].set_exception(OSError("d"))
    attempts.ends["b"].set_result("B")
    assert await race == "B"
    await until(lambda: sorted(attempts.cancelled) == ["a", "c"])
    assert attempts.discarded == []


@on_loop
async def test_what_succeeds_beside_the_one_that_is_taken_is_closed() -> None:
    attempts = Attempts()
    race = attempts.race("a", "b", delay=0.0)
    await until(lambda: attempts.begun == ["a", "b"])
    attempts.ends["a"].set_result("A")
    attempts.ends["b"].set_result("B")
    taken = await race
    await until(lambda: [taken, *attempts.discarded] in (["A", "B"], ["B", "A"]))


@pytest.mark.parametrize("done", [False, True])
@on_loop
async def test_a_race_that_is_called_off_leaves_nothing_open(*, done: bool) -> None:
    attempts = Attempts()
    race = attempts.race("a", "b", delay=0.0)
    await until(lambda: attempts.begun == ["a", "b"])
    if done:
        attempts.ends["a"].set_result("A")
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    await until(lambda: sorted(attempts.cancelled + attempts.discarded.copy())[-1:] == ["b"])
    await until(lambda: attempts.discarded == ["A"] if done else "a" in attempts.cancelled)


@on_loop
async def test_an_unexpected_error_ends_the_race() -> None:
    attempts = Attempts()
    race = attempts.race("a", "b", delay=0.0)
    await until(lambda: attempts.begun == ["a", "b"])
    attempts.ends["b"].set_exception(ValueError("b"))
    with pytest.raises(ValueError, match="b"):
        await race
    await until(lambda: attempts.cancelled == ["a"])
