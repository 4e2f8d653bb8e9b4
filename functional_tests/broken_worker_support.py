"""Attacks for a worker that was broken into, and an agent that starts nothing but such workers."""

import contextlib
import sys
from pathlib import Path

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
    "stop another": tried(lambda: os.kill(OTHER_PID, 0)),
    "slow down another": tried(lambda: os.sched_setaffinity(OTHER_PID, {0})),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX).close()),
    "steer": tried(lambda: listener.setsockopt(1, 68, 0)),
    "lock": tried(lambda: listener.setsockopt(1, 44, 1)),
})
"""
"""What an attacker tries first. OTHER_PID is the pid of another process of the workers' user."""

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

_AGENT = """
import asyncio, socket
from ovs_metadata.agent import workers
from ovs_metadata.agent.workers import Workers
from ovs_metadata.proxy.control.settings import Settings
workers.PYTHON = {python!r}
async def run():
    Workers("nobody", Settings()).start([[socket.create_server(("127.0.0.1", 0))]])
    await asyncio.sleep(600)
asyncio.run(run())
"""


def agent_program(python: tuple[str, ...], prelude: str = "") -> tuple[str, ...]:
    """The command of an agent whose workers run `python`, and which does `prelude` first."""
    return sys.executable, "-c", prelude + _AGENT.format(python=python)


def runs(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    with contextlib.suppress(FileNotFoundError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False
