"""A broken worker of an agent that is started by hand in a terminal, or in a container."""

import contextlib
import os
import select
import signal
import subprocess
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from broken_worker_support import LOOK_AROUND, STAY, agent_program, runs

from lab.attack.broken_worker import Attacker
from lab.rig.process import wait_for

TAKE_THE_TERMINAL = """
import fcntl, os, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
"""
"""What a login shell has done for the programs it starts."""

TYPE = """
import fcntl, os

TIOCSTI = 0x5412  # the module termios cannot be imported any more

def tried(call):
    try:
        call()
        return "done"
    except OSError as error:
        return error.strerror

def type_into(number):
    for each in b"id\\n":
        fcntl.ioctl(number, TIOCSTI, bytes([each]))

def opened(path):
    number = os.open(path, os.O_RDWR | os.O_NOCTTY)
    type_into(number)

terminals = [number for number in range(4096) if os.isatty(number)]
tell({
    "terminals": terminals,
    "typed": [tried(lambda: type_into(number)) for number in range(3)],
    "own": tried(lambda: opened("/dev/tty")),
    "agent's": tried(lambda: opened("TERMINAL")),
    "through the agent": tried(lambda: opened(f"/proc/{os.getppid()}/fd/2")),
})
"""


@pytest.fixture
def attacker() -> Iterator[Attacker]:
    with contextlib.closing(Attacker()) as listening:
        yield listening


@contextlib.contextmanager
def running(command: Sequence[str], descriptor: int | None = None) -> Iterator[int]:
    """A command and all it starts; its pid."""
    with subprocess.Popen(
        command, stdin=descriptor, stdout=descriptor, stderr=descriptor
    ) as process:
        try:
            yield process.pid
        finally:
            processes = [process.pid, *descendants(process.pid)]
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(FileNotFoundError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in map(int, children):
            found += [child, *descendants(child)]
    return found


@pytest.fixture
def terminal() -> Iterator[int]:
    """A terminal without a reader; a typed character is there at once."""
    controller, ours = os.openpty()
    tty.setcbreak(ours)
    yield ours
    os.close(ours)
    os.close(controller)


def test_no_worker_types_into_the_agents_terminal(attacker: Attacker, terminal: int) -> None:
    attack = TYPE.replace("TERMINAL", os.ttyname(terminal))
    with running(agent_program(attacker.python(attack), TAKE_THE_TERMINAL), terminal):
        found = attacker.heard()
    typed, _, _ = select.select([terminal], [], [], 0)
    assert typed == []
    assert found == {
        "terminals": [],
        "typed": ["Inappropriate ioctl for device"] * 3,
        "own": "No such device or address",
        "agent's": "Permission denied",
        "through the agent": "Permission denied",
    }


CAPABILITIES = (
    *("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("net_bind_service", "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap"),
)
"""What a container runtime leaves to root in a container, unless it is asked for more."""

CONTAINER = (
    *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
    *("setpriv", "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all"),
    f"--bounding-set=-all,{','.join('+' + each for each in CAPABILITIES)}",
    # Its init, which goes on when the agent has ended, and another process of the workers' user.
    *("sh", "-c", 'setpriv --reuid=nobody sleep infinity & "$@"; wait', "sh"),
)
OTHER_PID = "2"
"""The pid of that process."""


def test_in_a_container_a_worker_is_confined_as_anywhere(attacker: Attacker) -> None:
    attack = LOOK_AROUND.replace("OTHER_PID", OTHER_PID)
    with running([*CONTAINER, *agent_program(attacker.python(attack))]):
        found = attacker.heard()
    assert found["session"] == found["pid"] < 100, "it is a namespace of processes of its own"
    assert found["files"] == []
    assert (found["core"], found["dumpable"], found["no_new_privileges"]) == ([0, 0], 0, 1)
    refused = {"fork", "execute", "stop another", "slow down another", "steer", "lock"}
    assert {found[each] for each in refused} == {"Operation not permitted"}
    assert found["unix"] == "Address family not supported by protocol"
    assert (found["thread"], found["name"]) == ("done", True)


def test_in_a_container_nothing_of_a_worker_outlives_the_agent(attacker: Attacker) -> None:
    with running([*CONTAINER, *agent_program(attacker.python(STAY))]) as pid:
        attacker.heard()
        init, _other, agent, *workers = descendants(pid)
        assert workers
        os.kill(agent, signal.SIGKILL)
        wait_for(lambda: not any(map(runs, workers)), "the worker to end")
        assert runs(init)
