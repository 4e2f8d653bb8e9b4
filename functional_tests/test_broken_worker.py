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
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.attack.broken_worker import Attacker
from lab.rig.process import wait_for
from ovs_metadata.agent import workers as agent_workers
from ovs_metadata.agent.workers import Workers
from ovs_metadata.proxy.control.settings import Settings

LOOK_AROUND = """
import ctypes, os, resource, socket, stat, threading

def tried(call):
    try:
        return call() or "done"
    except OSError as error:
        return error.strerror

def forked():
    if os.fork() == 0:
        os._exit(0)

def executed():
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)

def threaded():
    answers = []
    thread = threading.Thread(target=lambda: answers.append("done"))
    thread.start()
    thread.join()
    return answers[0]

def is_file(number):
    try:
        kind = os.fstat(number).st_mode
    except OSError:
        return False
    return stat.S_ISREG(kind) or stat.S_ISCHR(kind) or stat.S_ISDIR(kind)

libc = ctypes.CDLL(None)
listener = socket.socket(fileno=listen_fds[0])
tell({
    "pid": os.getpid(),
    "session": os.getsid(0),
    "directory": os.getcwd(),
    "environment": sorted(os.environ),
    "files": [number for number in range(1, 4096) if is_file(number)],
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": libc.prctl(3, 0, 0, 0, 0),
    "no_new_privileges": libc.prctl(39, 0, 0, 0, 0),
    "thread": threaded(),
    "name": bool(socket.getaddrinfo("localhost", 80)),
    "fork": tried(forked),
    "execute": tried(executed),
    "stop another": tried(lambda: os.kill(SOMEBODY, 0)),
    "slow down another": tried(lambda: os.sched_setaffinity(SOMEBODY, {0})),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX).close()),
    "steer": tried(lambda: listener.setsockopt(1, 68, 0)),
    "lock": tried(lambda: listener.setsockopt(1, 44, 1)),
})
"""


@pytest.fixture(scope="module")
def somebody() -> Iterator[int]:
    """A process of the workers' user that is none of ours: another daemon."""
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
def found(somebody: int) -> dict[str, Any]:
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
            told: dict[str, Any] = attack(listening, LOOK_AROUND.replace("SOMEBODY", str(somebody)))
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, cores)
    return told


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


AGENT = """
import asyncio, socket, sys
from ovs_metadata.agent import workers
from ovs_metadata.agent.workers import Workers
from ovs_metadata.proxy.control.settings import Settings
workers.PYTHON = {python!r}
async def run():
    Workers("nobody", Settings()).start([[socket.create_server(("127.0.0.1", 0))]])
    await asyncio.sleep(600)
asyncio.run(run())
"""

STAY = """
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
try:
    child = os.fork()
except OSError:
    child = None
if child != 0:
    tell([os.getpid(), *([child] if child else [])])
while True:
    time.sleep(600)
"""
"""Wants to outlive its agent, by itself or by a child, and to go on accepting."""


def test_nothing_of_it_outlives_an_agent_that_is_killed(attacker: Attacker) -> None:
    code = AGENT.format(python=attacker.python(STAY))
    with subprocess.Popen([sys.executable, "-c", code]) as agent:
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


def runs(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    with contextlib.suppress(FileNotFoundError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False
