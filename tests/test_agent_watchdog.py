"""Watchdog pings: how often they come, and from the event loop alone."""

import asyncio
import os
import socket
import time

import pytest

from lab.rig.process import until
from ovs_metadata.agent.systemd import Systemd, ping_interval, send_pings


@pytest.mark.parametrize("pid", ["", str(os.getpid())], ids=["no pid", "our own"])
def test_several_signs_fit_into_the_time_the_watchdog_waits(pid: str) -> None:
    environment = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": pid, "HOME": "/root"}
    assert ping_interval(environment) == 10.0
    assert environment == {"HOME": "/root"}  # children are not watched


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
    ],
)
def test_without_a_watchdog_of_our_own_there_are_no_signs(environment: dict[str, str]) -> None:
    assert ping_interval(environment) is None


def test_signs_end_while_the_event_loop_is_stuck_and_come_again() -> None:
    given: list[float] = []

    async def run() -> tuple[int, int]:
        task = asyncio.create_task(send_pings(0.01, lambda: given.append(time.monotonic())))
        await until(lambda: len(given) >= 3)
        before = len(given)
        time.sleep(0.1)  # what is tested: an event loop that is stuck
        during = len(given) - before
        await until(lambda: len(given) >= before + 2)
        task.cancel()
        return before, during

    before, during = asyncio.run(run())
    assert before >= 3
    assert during == 0


def test_a_sign_is_what_systemd_expects(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("n") / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        Systemd(str(path), {}).ping()
        assert manager.recv(100) == b"WATCHDOG=1"
