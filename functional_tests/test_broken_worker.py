"""A worker that was broken into: what its attacker can reach, and what is left of it when it ends.

The worker is the real one, started by the agent's own code, with privileges dropped; only in place
of serving it runs an attack (`lab.attack.broken_worker`).
"""

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from broken_worker_support import LOOK_AROUND, STAY, agent_program, runs

from lab.attack.broken_worker import Attacker
from lab.rig.process import wait_for
from ovs_metadata.agent import workers as agent_workers
from ovs_metadata.agent.workers import Workers
from ovs_metadata.proxy.control.settings import Settings


@pytest.fixture(scope="module")
def other_process() -> Iterator[int]:
    """Another daemon's process of the workers' user."""
    with subprocess.Popen(["sleep", "infinity"], user="nobody") as process:
        yield process.pid
        process.kill()


@pytest.fixture
def attacker() -> Iterator[Attacker]:
    with contextlib.closing(Attacker()) as listening:
        yield listening


@contextlib.asynccontextmanager
async def broken_workers(python: tuple[str, ...]) -> AsyncIterator[Workers]:
    """A worker that runs an attack; its listening socket is on loopback."""
    workers = Workers("nobody", Settings(drain_timeout=0.1))
    with pytest.MonkeyPatch.context() as patched, socket.create_server(("127.0.0.1", 0)) as place:
        patched.setattr(agent_workers, "PYTHON", python)
        workers.start([[place]], lambda _: [socket.create_server(("127.0.0.1", 0))])
        try:
            yield workers
        finally:
            await workers.stop()


def attack(attacker: Attacker, code: str) -> Any:
    """What an attack tells."""

    async def scenario() -> Any:
        async with broken_workers(attacker.python(code)):
            return await asyncio.to_thread(attacker.heard)

    return asyncio.run(scenario())


@pytest.fixture(scope="module")
def found(other_process: int) -> dict[str, Any]:
    """What an attacker finds in a worker, whose agent has a terminal, secrets and core dumps."""
    cores = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (cores[1], cores[1]))
    try:
        with (
            contextlib.closing(Attacker()) as listening,
            pytest.MonkeyPatch.context() as patched,
        ):
            patched.setenv("STORE_PASSWORD", "a secret")
            patched.setenv("LANG", "C.UTF-8")
            found_by_it: dict[str, Any] = attack(
                listening, LOOK_AROUND.replace("OTHER_PID", str(other_process))
            )
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, cores)
    return found_by_it


def test_it_has_a_session_of_its_own_and_no_terminal(found: dict[str, Any]) -> None:
    assert found["session"] == found["pid"]


def test_it_inherits_a_few_named_variables_and_no_file_or_directory(
    found: dict[str, Any],
) -> None:
    assert found["directory"] == "/"
    assert "LANG" in found["environment"]
    assert not {"PATH", "HOME", "STORE_PASSWORD"}.intersection(found["environment"])
    assert found["files"] == []


def test_it_leaves_no_core(found: dict[str, Any]) -> None:
    assert found["core"] == [0, 0]
    assert found["dumpable"] == 0


def test_it_gains_no_privileges(found: dict[str, Any]) -> None:
    assert found["no_new_privileges"] == 1


@pytest.mark.parametrize(
    "tried",
    ["fork", "execute", "stop another", "slow down another", "steer", "lock"],
)
def test_it_may_not(found: dict[str, Any], tried: str) -> None:
    assert found[tried] == "Operation not permitted"


def test_it_reaches_no_daemon_through_a_unix_socket(found: dict[str, Any]) -> None:
    assert found["unix"] == "Address family not supported by protocol"


def test_what_serving_needs_it_can_do(found: dict[str, Any]) -> None:
    assert found["thread"] == "done"
    assert found["name"] is True


def test_nothing_of_it_outlives_an_agent_that_is_killed(attacker: Attacker) -> None:
    with subprocess.Popen(agent_program(attacker.python(STAY))) as agent:
        pids = attacker.heard()
        agent.kill()
    try:
        wait_for(lambda: not any(map(runs, pids)), "the worker and its child to end")
    finally:
        for pid in filter(runs, pids):
            os.kill(pid, 9)


def test_nothing_of_it_outlives_its_own_end(attacker: Attacker) -> None:
    async def scenario() -> list[int]:
        async with broken_workers(attacker.python(STAY)):
            pids: list[int] = await asyncio.to_thread(attacker.heard)
        return pids

    pids = asyncio.run(scenario())
    try:
        assert not any(map(runs, pids))
    finally:
        for pid in filter(runs, pids):
            os.kill(pid, 9)


SHUT_DOWN = """
import os, socket
listener = socket.socket(fileno=listen_fds[0])
listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
listener.shutdown(socket.SHUT_RDWR)
tell(listening)
os._exit(0)
"""
"""Leaves a listening socket that listens no more to the worker after it."""


def test_no_worker_gets_a_listening_socket_that_the_one_before_has_spoiled(
    attacker: Attacker,
) -> None:
    async def scenario() -> list[int]:
        async with broken_workers(attacker.python(SHUT_DOWN)):
            return [await asyncio.to_thread(attacker.heard) for _ in range(2)]

    assert asyncio.run(scenario()) == [1, 1]
