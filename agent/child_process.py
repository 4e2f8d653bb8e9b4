"""Child processes: starts them, restarts them with back-off, and ends them in an orderly way.

A child that hangs is killed, and so restarted.

A child lives as long as the task that keeps it running; cancelling the task ends the child.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from ovs_metadata.agent import heartbeat as heartbeats
from ovs_metadata.agent.child_output import relayed_pipe
from ovs_metadata.agent.heartbeat import Heartbeat

LOG = logging.getLogger(__name__)

PYTHON = (sys.executable, "-P")
"""Runs a module without searching the working directory, in which any user may have files."""

FIRST_DELAY = 0.1
MAX_DELAY = 10.0
"""Seconds before a child that exited is restarted: doubled from the first to the longest."""

STEADY_AFTER = 10.0
"""Seconds after which a child counts as running, and the delay after its next exit is the first."""


_PASSED_ON = (
    *("LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONUNBUFFERED"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "RES_OPTIONS", "LOCALDOMAIN"),
)
"""Variables that a worker gets: language and time zone of its log, path of the modules, default
certificate authorities, and name resolution."""


def workers_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: the variables that it needs of the agent's, and no others."""
    return {name: ours[name] for name in _PASSED_ON if name in ours}


@dataclass(frozen=True, slots=True)
class Child:
    """A child process as status and health show it: the last one of its name, running or not."""

    name: str
    pid: int
    running: bool
    hangs: bool = False
    """Whether it runs without sending heartbeats."""
    ends: int = 0
    """How many of its processes have ended lately (`heartbeat.ENDS_KEPT`)."""
    last_end: str = ""
    """How the last of them did."""


def child(name: str, process: Process, heartbeat: Heartbeat) -> Child:
    """Return the state of a child process."""
    running = process.returncode is None
    hangs = running and heartbeat.hangs
    return Child(name, process.pid, running, hangs, heartbeat.ends, heartbeat.last_end)


async def start_child(
    name: str,
    *command: str,
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Process:
    """Start a process whose output is logged as that of `name`; raises OSError.

    It has a session of its own, and so no terminal. Directory and environment are ours, unless
    others are given.
    """
    output = await relayed_pipe(name)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            pass_fds=pass_fds,
            cwd=cwd,
            env=env,
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    finally:
        os.close(output)


async def keep_running(
    name: str,
    start: Callable[[], Awaitable[Process]],
    stop_timeout: Callable[[], float],
    heartbeat: Heartbeat | None = None,
) -> None:
    """Run a child until cancelled.

    Args:
        name: what to call it in the log.
        start: starts the process.
        stop_timeout: called when the child is to end: the seconds between SIGTERM and SIGKILL.
        heartbeat: of the child, if it sends any. A child that hangs for long gets SIGKILL.
    """
    clock = asyncio.get_running_loop().time
    delay = FIRST_DELAY
    while True:
        started = clock()
        if heartbeat:
            heartbeat.starts()
        try:
            process = await start()
        except OSError as error:
            LOG.error("cannot start %s: %s; trying again in %.1f s", name, error, delay)
        else:
            LOG.info("%s started, pid %d", name, process.pid)
            try:
                status = await _end_of(name, process, heartbeat)
            except asyncio.CancelledError:
                await _end(name, process, stop_timeout())
                raise
            how = _how_it_ended(status)
            if heartbeat:
                heartbeat.ended(how)
            if clock() - started > STEADY_AFTER:
                delay = FIRST_DELAY
            LOG.error(
                "%s, pid %d, %s; starting it again in %.1f s",
                *(name, process.pid, how, delay),
            )
        await asyncio.sleep(delay)
        delay = min(2 * delay, MAX_DELAY)


async def _end_of(name: str, process: Process, heartbeat: Heartbeat | None) -> int:
    """Wait until a process has exited, and kill it if it hangs; return its exit status."""
    if heartbeat is None:
        return await process.wait()
    ended = asyncio.create_task(process.wait())
    try:
        while not (await asyncio.wait([ended], timeout=heartbeats.INTERVAL))[0]:
            heartbeat.tick()
            if heartbeat.silent == heartbeats.HUNG_AFTER:
                LOG.error(
                    "%s, pid %d, hangs: no heartbeat for %d s",
                    *(name, process.pid, heartbeats.HUNG_AFTER * heartbeats.INTERVAL),
                )
            elif heartbeat.silent == heartbeats.KILLED_AFTER:
                LOG.error(
                    "%s, pid %d, hangs: no heartbeat for %d s, killing it",
                    *(name, process.pid, heartbeats.KILLED_AFTER * heartbeats.INTERVAL),
                )
                heartbeat.killed()
                process.kill()
        return ended.result()
    finally:
        ended.cancel()


async def _end(name: str, process: Process, stop_timeout: float) -> None:
    try:
        process.terminate()
    except ProcessLookupError:
        return
    try:
        await asyncio.wait_for(process.wait(), stop_timeout)
    except TimeoutError:
        LOG.warning(
            "%s, pid %d, did not exit within %g s of SIGTERM: killing it",
            name,
            process.pid,
            stop_timeout,
        )
        process.kill()
        await process.wait()


def _how_it_ended(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
