"""Children: kept running, and ended in an orderly way."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lab.rig.process import until
from ovs_metadata.agent import child_process
from ovs_metadata.agent import heartbeat as heartbeats
from ovs_metadata.agent.child_process import child, keep_running
from ovs_metadata.agent.heartbeat import Heartbeat, heartbeat_pipe

TIMEOUT = 20


def _python(code: str, started: list[Process]) -> Callable[[], Awaitable[Process]]:
    async def start() -> Process:
        started.append(await asyncio.create_subprocess_exec(sys.executable, "-c", code))
        return started[-1]

    return start


def test_a_child_that_ends_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "FIRST_DELAY", 0.01)
    started: list[Process] = []

    async def scenario() -> None:
        task = asyncio.create_task(keep_running("child", _python("exit(3)", started), lambda: 5))
        await until(lambda: len(started) >= 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert started[0].returncode == 3


def test_each_restart_waits_longer_than_the_one_before(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child_process, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(child_process, "MAX_DELAY", 0.04)
    started: list[Process] = []

    async def scenario() -> None:
        task = asyncio.create_task(keep_running("child", _python("exit(1)", started), lambda: 5))
        await until(lambda: len(started) >= 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    delays = [record.args[-1] for record in caplog.records if isinstance(record.args, tuple)]
    assert [delay for delay in delays if isinstance(delay, float)][:4] == [0.01, 0.02, 0.04, 0.04]


def test_cancelling_ends_the_child_by_sigterm(tmp_path: Path) -> None:
    code = f"""
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path({str(tmp_path / "ended")!r}).touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path({str(tmp_path / "ready")!r}).touch()
time.sleep(60)
"""
    started: list[Process] = []

    async def scenario() -> None:
        task = asyncio.create_task(keep_running("child", _python(code, started), lambda: TIMEOUT))
        await until((tmp_path / "ready").exists)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert (tmp_path / "ended").exists()
    assert started[0].returncode == 0
    assert len(started) == 1


def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"""
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({str(ready)!r}).touch()
time.sleep(60)
"""
    started: list[Process] = []

    async def scenario() -> None:
        task = asyncio.create_task(keep_running("child", _python(code, started), lambda: 0.1))
        await until(ready.exists)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert started[0].returncode == -9


def test_a_child_that_sends_no_heartbeat_is_killed_and_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child_process, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(heartbeats, "INTERVAL", 0.01)
    started: list[Process] = []
    killed: list[int] = []
    heartbeat = Heartbeat(lambda: killed.append(started[-1].pid))
    found: list[bool] = []

    async def scenario() -> None:
        start = _python("import time; time.sleep(60)", started)
        task = asyncio.create_task(keep_running("child", start, lambda: 5, heartbeat))
        await until(lambda: bool(started))
        heartbeat.received()  # as it does when it has started
        found.append(child("child", started[0], heartbeat).hangs)
        await until(lambda: heartbeat.hangs)
        found.append(child("child", started[0], heartbeat).hangs)
        await until(lambda: len(started) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert started[0].returncode == -9
    assert killed[0] == started[0].pid
    assert (heartbeat.ends, heartbeat.last_end) == (1, "was killed by signal 9")
    assert found == [False, True]
    assert "hangs: no heartbeat for" in caplog.text


def test_a_child_that_sends_heartbeats_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "INTERVAL", 0.001)
    started: list[Process] = []
    heartbeat = Counted()

    async def scenario() -> None:
        start = _python("import time; time.sleep(60)", started)
        task = asyncio.create_task(keep_running("child", start, lambda: 5, heartbeat))
        await until(lambda: heartbeat.ticks > 200)
        assert started[0].returncode is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert len(started) == 1


class Counted(Heartbeat):
    """Heartbeats before each fifth tick."""

    ticks = 0

    def tick(self) -> None:
        super().tick()
        self.ticks += 1
        if self.ticks % 5 == 0:
            self.received()


def test_a_child_cannot_be_found_still_while_it_starts() -> None:
    heartbeat = Heartbeat()
    heartbeat.starts()
    for _ in range(heartbeats.STARTING):
        heartbeat.tick()
        assert not heartbeat.hangs


def test_heartbeats_count_the_lines_dropped_since_the_last() -> None:
    heartbeat, dropped = Heartbeat(), [0]
    others: list[bytes] = []
    heartbeat.starts()

    async def scenario() -> None:
        writer = await heartbeat_pipe(heartbeat, dropped.append, others.append)
        os.write(writer, b"2\n2\n1")
        os.write(writer, b"5\nnonsense\n")
        os.close(writer)
        await until(lambda: len(dropped) == 4)

    asyncio.run(scenario())
    assert dropped == [0, 2, 0, 13]
    assert others == [b"nonsense"]
    assert heartbeat.silent == 0


def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "FIRST_DELAY", 0.01)
    started: list[Process] = []
    failures = [OSError(11, "Resource temporarily unavailable"), OSError(24, "Too many open files")]
    start_python = _python("import time; time.sleep(60)", started)

    async def start() -> Process:
        if failures:
            raise failures.pop()
        return await start_python()

    async def scenario() -> None:
        task = asyncio.create_task(keep_running("child", start, lambda: 5))
        await until(lambda: bool(started))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert len(started) == 1
