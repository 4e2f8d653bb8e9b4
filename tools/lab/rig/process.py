"""Small things every part of the lab needs: commands, processes, deadlines.

Processes are started in their own session, and ended by pid: SIGTERM, then SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class LabError(Exception):
    """The lab could not be set up; the message says which part and why."""


def run(*command: str | Path, timeout: float = 30.0, check: bool = True) -> str:
    """Run a command and return what it printed; raises LabError with its stderr when it fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(str(error)) from error
    if check and done.returncode:
        raise LabError(
            f"{' '.join(str(part) for part in command)} exited {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


def wait_for(condition: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """Call `condition` until it returns something true, and return that.

    A LabError that it raises, because a daemon is just starting again for example, is "not yet".

    Raises:
        LabError: it did not become true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    reason = ""
    while True:
        try:
            value = condition()
        except LabError as error:
            reason = f" ({error})"
        else:
            if value:
                return value
            reason = ""
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s in vain for {what}{reason}")
        time.sleep(0.02)


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait on the event loop until `condition` returns something true.

    Raises:
        TimeoutError: it did not become true within `timeout` seconds.
    """
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Have the kernel end this process with the thread that started it (prctl(2)).

    So that nothing stays behind of a lab that was killed.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A background process whose output goes to a log file."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        env: dict[str, str] | None = None,
        namespace: str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start it, inside a named network namespace if one is given.

        `pass_fds` are descriptors that it inherits.

        nsenter and not `ip netns exec`: the latter has a mount namespace of its own, in which a
        namespace that the agent makes would be invisible to other processes.
        """
        prefix = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
        self.command = [*prefix, *(str(part) for part in command)]
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                pass_fds=pass_fds,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, nothing shared
            )
        self.pid = self._popen.pid

    def alive(self) -> bool:
        """Whether it is still running."""
        return self._popen.poll() is None

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, and do not wait."""
        self._popen.send_signal(signum)

    def wait(self, timeout: float = 10.0) -> int:
        """Wait for its end and return the exit status."""
        return self._popen.wait(timeout)

    def stop(self, timeout: float = 10.0) -> int:
        """End it: SIGTERM, and SIGKILL when it takes longer than `timeout` seconds."""
        if self.alive():
            self._popen.terminate()
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()

    def log_tail(self, lines: int = 60) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


_RESERVED: list[socket.socket] = []
"""What `free_port` has bound; they stay open as long as this process."""


def free_port() -> int:
    """A TCP port for a test's server, on any address, until this process ends.

    It stays bound here without listening: the kernel gives it to no other `bind` to port 0 and to
    no outgoing connection. A server that binds it by its number with SO_REUSEADDR can listen on
    it. Until then the kernel refuses connections to it.
    """
    reserved = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
    _RESERVED.append(reserved)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reserved.family == socket.AF_INET6:
        reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    reserved.bind(("", 0))
    return int(reserved.getsockname()[1])


@contextlib.contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace with its loopback up; removed afterwards."""
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        run("ip", "netns", "del", name)


@contextlib.contextmanager
def stopped_process(pid: int) -> Iterator[None]:
    """Stop a process for the block, which begins when none of its threads runs any more."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: _is_stopped(pid), f"process {pid} to stop")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # its supervisor may have killed it
            os.kill(pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    states = (stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(state.rpartition(")")[2].split()[0] == "T" for state in states)
