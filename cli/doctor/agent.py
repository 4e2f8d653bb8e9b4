"""The hop "agent": the agent, its workers, and the flow controller.

Nothing is touched. Whether a process holds a lock is read in /proc/locks and not tried out, for an
agent that is just starting would then find it taken. The checks are pure: facts in, findings out.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ovs_metadata.cli.admin_client import AgentTimedOut, AgentUnreachable, ask
from ovs_metadata.cli.doctor.advice import Advice, restart_agent, resume
from ovs_metadata.cli.doctor.report import Fault, Faults, Finding, HopName, HopReport
from ovs_metadata.cli.doctor.retry import retry_while_wrong
from ovs_metadata.host.config import Config
from ovs_metadata.quantities import count_of

PROC = Path("/proc")

LOOKS = 3
"""How often the list of locks is read before it is believed that a lock is not held."""

_FOUND_BY_OTHERS = {
    *("no-answer-from-nova", "store-unreachable", "flows-refused", "ovsdb-unreachable"),
    "flows-deleted",
}
"""Codes of what the agent reports and the doctor's other hops find by themselves."""

AGENT_LOCK = "agent.lock"

_WORKER = b"ovs_metadata.proxy.main"

FAULTS = Faults(HopName.AGENT)

AGENT_NOT_RUNNING = FAULTS.error(
    "agent-not-running",
    "The agent is not running.",
    "Start ovs-metadata-agent. The end of its log says why it ended.",
)
AGENT_ELSEWHERE = FAULTS.warning(
    "agent-elsewhere",
    "The agent runs, but not with the state_dir that the configuration file names.",
    "Restart the agent: the directory was moved or removed, or [agent] state_dir was changed. "
    "Guests are served; commands cannot ask the agent.",
)
AGENT_STUCK = FAULTS.error(
    "agent-stuck",
    "The agent's process exists, but the agent does nothing.",
    "Continue it with kill -CONT PID if it was stopped; otherwise restart it. A restart does not "
    "interrupt guests.",
)
ADMIN_UNREACHABLE = FAULTS.warning(
    "admin-unreachable",
    "The agent runs, but does not answer at its admin socket.",
    "Restart the agent. Its log says why admin.sock in state_dir cannot be used. Guests are "
    "served without it; commands show less.",
)
AGENT_NOT_READY = FAULTS.error(
    "agent-not-ready",
    "The agent reports that it does not serve.",
    "If the other findings do not explain it, read the agent's log.",
)
WORKERS_MISSING = FAULTS.error(
    "workers-missing",
    "Fewer proxy workers run than are configured.",
    "The agent restarts them with growing delays. Its log says why they end.",
)
WORKER_STUCK = FAULTS.error(
    "worker-stuck",
    "A proxy worker is stopped, and does not serve the requests it gets.",
    "The agent kills it after 20 s and starts another. Find out what stopped it.",
)
CONTROLLER_NOT_RUNNING = FAULTS.error(
    "controller-not-running",
    "No flow controller runs: new ports get no flows, and deleted flows are not restored.",
    "The agent restarts it, unless [flows] controller is external: then start ryu-manager with "
    "ovs_metadata.flows.app. The log says why it ended.",
)
CONTROLLER_STUCK = FAULTS.error(
    "controller-stuck",
    "The flow controller is stopped: new ports get no flows, and deleted flows are not restored.",
    "The agent kills it after 20 s and starts another. Continue an external one with kill -CONT "
    "PID. Find out what stopped it.",
)
PROCESS_ENDS_AGAIN = FAULTS.warning(
    "process-ends-again",
    "A process of the agent ends again and again, and the agent starts it each time.",
    "The agent's log says why it ends. After signal 9 without a message look for the kernel's "
    "memory killer in journalctl -k, and for MemoryMax in systemctl show ovs-metadata-agent.",
)
CERTIFICATE_EXPIRES = FAULTS.warning(
    "certificate-expires",
    "A certificate of this host or of ZooKeeper's server expires soon or has expired.",
    "Renew the file, and restart the agent: it reads the store's certificates when it connects. A "
    "restart does not interrupt guests. Renew that of ZooKeeper's server (zookeeper) there.",
)


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process: `stopped` if it does not run although it is there (by a signal, or a debugger)."""

    pid: int
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class AdminFacts:
    """What the agent reports. `unreachable` and `silent`: why it reports nothing.

    ready: whether it serves the instances on this host. problems and not_ready: why it does not,
    and why it would not serve new ones, as far as no other hop finds that by itself.
    enabled: whether the service is enabled in the agent; None if the agent does not know yet. file:
    the values of the configuration file that the agent uses. endpoints: Nova's, as the workers see
    them. refusal: what the bridge refuses of the flow controller's, and why. deletion: that another
    program keeps deleting our flows. unsteady: processes that end again and again. expiring:
    certificates that expire soon, but for Nova's.
    """

    unreachable: str = ""
    silent: str = ""
    ready: bool = True
    problems: tuple[str, ...] = ()
    not_ready: tuple[str, ...] = ()
    ports: Sequence[Mapping[str, Any]] = ()
    enabled: bool | None = None
    file: Mapping[str, str] = field(default_factory=dict)
    endpoints: Sequence[Mapping[str, Any]] = ()
    refusal: str = ""
    deletion: str = ""
    expiring: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """The agent and its children. `admin` is None if the agent was not asked.

    elsewhere: which agent of this host holds another lock file, if none holds ours.
    """

    wanted_workers: int
    agent: ProcessFacts | None = None
    controller: ProcessFacts | None = None
    workers: tuple[ProcessFacts, ...] = ()
    admin: AdminFacts | None = None
    elsewhere: str = ""

    @property
    def keeps_enabled(self) -> bool | None:
        """Whether the service is enabled in the agent; None if that is unknown.

        Workers run only while it is.
        """
        shown = self.admin.enabled if self.admin else None
        return True if shown is None and self.workers else shown

    @property
    def at_work(self) -> bool:
        """Whether a fault may vanish by itself: no process is stopped."""
        processes = (self.agent, self.controller, *self.workers)
        return self.agent is not None and not any(each and each.stopped for each in processes)


def read_agent(config: Config) -> AgentFacts:
    """Read the agent's processes, and ask the agent."""
    facts = read_processes(config)
    if facts.agent and not facts.agent.stopped:
        admin = read_admin(config.admin_socket)
        # The file may have changed after the agent had read it.
        wanted = int(admin.file.get("workers", config.workers))
        return replace(facts, admin=admin, wanted_workers=wanted)
    return facts


def read_processes(config: Config) -> AgentFacts:
    """Read the processes of the agent and its children.

    Raises:
        OSError: the lock files cannot be read.
    """
    agent = _holder(config.state_dir / AGENT_LOCK)
    return AgentFacts(
        wanted_workers=config.workers,
        agent=agent,
        controller=_holder(config.state_dir / "flows.lock"),
        workers=tuple(_workers_of(agent.pid)) if agent else (),
        elsewhere="" if agent else _elsewhere(),
    )


def _elsewhere() -> str:
    """An agent in this network namespace, and where its lock file is; empty if there is none."""
    for directory in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if not os.path.samestat((directory / "ns/net").stat(), (PROC / "self/ns/net").stat()):
                continue
            for descriptor in (directory / "fd").iterdir():
                place = str(descriptor.readlink())
                if Path(place.removesuffix(" (deleted)")).name == AGENT_LOCK:
                    return f"pid {directory.name} has its lock file at {place}"
    return ""


def _holder(lock: Path) -> ProcessFacts | None:
    """The process that holds a lock file (see `ovs_metadata.host.lock`)."""
    try:
        wanted = lock.stat()
    except FileNotFoundError:
        return None
    # The kernel gives the list page by page. While other locks come and go, a page may begin behind
    # the one that is looked for, and so a list that lacks it is read again.
    for _ in range(LOOKS):
        process = _holder_by((PROC / "locks").read_text(), wanted)
        if process:
            return process
    return None


def _holder_by(locks: str, wanted: os.stat_result) -> ProcessFacts | None:
    """The process that holds the lock of a file, by one list of locks."""
    for line in locks.splitlines():
        # "1: FLOCK  ADVISORY  WRITE 2052 fe:00:2195525 0 EOF", see proc(5).
        words = line.split()
        if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(wanted.st_ino):
            process = read_process(int(words[4]))
            if process and _has_open(process.pid, wanted):
                return process
    return None


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    """Whether a process has that file open: inode numbers alone may be another file system's."""
    try:
        descriptors = list((PROC / str(pid) / "fd").iterdir())
    except PermissionError:  # only root may look, and for others the number has to do
        return True
    except OSError:  # it has just ended
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if os.path.samestat(descriptor.stat(), wanted):
                return True
    return False


def read_process(pid: int) -> ProcessFacts | None:
    """The process of that number; None if there is none, or it has ended."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The process has chosen its name, which is in brackets, and may be any bytes.
    state = text.rpartition(b")")[2].split()[0].decode("ascii")
    if state in "ZX":
        return None
    return ProcessFacts(pid, stopped=state in "Tt")


def _workers_of(agent: int) -> Iterator[ProcessFacts]:
    for directory in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int((directory / "stat").read_bytes().rpartition(b")")[2].split()[1])
            if parent != agent or _WORKER not in (directory / "cmdline").read_bytes().split(b"\0"):
                continue
            process = read_process(int(directory.name))
            if process:
                yield process


def read_admin(place: Path) -> AdminFacts:
    """Ask the agent at its admin socket whether it is ready, and for its ports."""
    try:
        status, ports = ask(place, "/status"), ask(place, "/ports")
        own = [each for each in status["findings"] if each["code"] not in _FOUND_BY_OTHERS]
        return AdminFacts(
            ready=status["serving"],
            problems=tuple(each["text"] for each in own if each["level"] == "error"),
            not_ready=tuple(each["text"] for each in own if each["level"] == "new"),
            ports=tuple(ports["ports"]),
            enabled=status["enabled"],
            file={each["name"]: each["value"] for each in status["file"]},
            endpoints=tuple(status["endpoints"]),
            refusal="; ".join(_texts_of(status, "flows-refused")),
            deletion="; ".join(_texts_of(status, "flows-deleted")),
            expiring=_texts_of(status, CERTIFICATE_EXPIRES.name),
            unsteady=_texts_of(status, PROCESS_ENDS_AGAIN.name),
        )
    except AgentTimedOut as error:
        return AdminFacts(silent=str(error))
    except AgentUnreachable as error:
        return AdminFacts(unreachable=str(error))


def _texts_of(status: Mapping[str, Any], code: str) -> tuple[str, ...]:
    """What the agent reports under a code."""
    return tuple(each["text"] for each in status["findings"] if each["code"] == code)


def read_agent_at_rest(
    config: Config, read: Callable[[Config], AgentFacts], enabled: Callable[[AgentFacts], bool]
) -> AgentFacts:
    """Read the agent, and for a moment again if one of its processes may be about to start.

    Args:
        config: which agent.
        read: `read_agent` or `read_processes`.
        enabled: whether the service is enabled, given what was read.

    Raises:
        OSError: the lock files cannot be read.
    """

    def is_wrong(facts: AgentFacts) -> bool:
        return any(check(facts, config.controller, enabled=enabled(facts)))

    facts = read(config)
    return retry_while_wrong(facts, lambda: read(config), is_wrong, patient=facts.at_work)


def examine(facts: AgentFacts, controller_kind: str, *, enabled: bool) -> HopReport:
    """Report on the agent and its children."""
    pid = facts.agent.pid if facts.agent else None
    seen = f"pid {pid}, {count_of(len(facts.workers), 'worker')}"
    return HopReport(HopName.AGENT, tuple(check(facts, controller_kind, enabled=enabled)), seen)


def check(facts: AgentFacts, controller_kind: str, *, enabled: bool) -> Iterator[Finding]:
    """Check the agent and its children. Without an agent no children are expected."""
    if facts.agent is None and facts.elsewhere:
        advice = Advice(AGENT_ELSEWHERE.remedy, (restart_agent(),))
        yield Finding(AGENT_ELSEWHERE, facts.elsewhere, advice=advice)
    elif facts.agent is None:
        yield Finding(
            AGENT_NOT_RUNNING,
            "no process holds its lock file",
            advice=Advice(AGENT_NOT_RUNNING.remedy, (restart_agent(),)),
        )
    elif facts.agent.stopped:
        yield _stopped(AGENT_STUCK, facts.agent)
    elif facts.admin:
        yield from _check_admin(facts.admin, facts, facts.agent, enabled=enabled)
    if not enabled:
        return
    if facts.agent:
        yield from _check_workers(facts)
    if facts.controller is None:
        if facts.agent or controller_kind == "external":
            yield Finding(CONTROLLER_NOT_RUNNING, "no process holds its lock file")
    elif facts.controller.stopped:
        yield _stopped(CONTROLLER_STUCK, facts.controller)


def _stopped(fault: Fault, process: ProcessFacts) -> Finding:
    """Of a process that a signal or a debugger has stopped: it is continued, and goes on."""
    text = "Continue the process, and find out what stopped it. Guests lose nothing by that."
    advice = Advice(text, (resume(process.pid),))
    return Finding(fault, f"pid {process.pid} is stopped", advice=advice)


def _check_admin(
    admin: AdminFacts, facts: AgentFacts, agent: ProcessFacts, *, enabled: bool
) -> Iterator[Finding]:
    if admin.unreachable:
        advice = Advice(ADMIN_UNREACHABLE.remedy, (restart_agent(),))
        yield Finding(ADMIN_UNREACHABLE, admin.unreachable, advice=advice)
    elif admin.silent:
        why = f"pid {agent.pid} is there, but {admin.silent}"
        text = "Restart it. A restart does not interrupt guests."
        yield Finding(AGENT_STUCK, why, advice=Advice(text, (restart_agent(),)))
    for why in admin.unsteady:
        yield Finding(PROCESS_ENDS_AGAIN, why)
    for why in admin.expiring:
        yield Finding(CERTIFICATE_EXPIRES, why)
    if enabled and (admin.problems or admin.not_ready):
        # A child that is stopped is a finding of its own.
        stopped = [each.pid for each in (facts.controller, *facts.workers) if each and each.stopped]
        hanging = tuple(f"pid {pid}, hangs" for pid in stopped)
        problems = [each for each in admin.problems if not each.endswith(hanging)]
        lesser = [each for each in admin.not_ready if not each.endswith(hanging)]
        if problems or lesser:
            why = "; ".join([*problems, *lesser])
            yield Finding(AGENT_NOT_READY, why, lesser=not problems)


def _check_workers(facts: AgentFacts) -> Iterator[Finding]:
    if len(facts.workers) < facts.wanted_workers:
        why = f"{len(facts.workers)} of {facts.wanted_workers} are there"
        yield Finding(WORKERS_MISSING, why)
    for worker in facts.workers:
        if worker.stopped:
            yield _stopped(WORKER_STUCK, worker)
