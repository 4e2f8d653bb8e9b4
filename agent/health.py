"""The health of this host: one pure function of what the agent knows.

Everything that shows whether this host serves its guests draws from `health`: the admin listener's
health, status, page and ports, the metrics, the commands, and the agent's announcement in the
store. So no two of them contradict each other. docs/metrics.md describes the states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from ovs_metadata.agent.health_state import HealthState
from ovs_metadata.quantities import count_of, shown_seconds
from ovs_metadata.utc import utc

if TYPE_CHECKING:
    from ovs_metadata.agent.certificates import Certificate
    from ovs_metadata.agent.child_process import Child
    from ovs_metadata.flows.controller_report import ControllerReport
    from ovs_metadata.host.address import IpVersion
    from ovs_metadata.store.reconciliation import ReconciliationReport

FLOW_CONTROLLER = "flow controller"
"""The name of that child."""


def worker_name(number: int) -> str:
    """Return the name of a proxy worker, which is a child too."""
    return f"proxy worker {number}"


BRIEFLY = 10.0
"""Seconds for which a lost connection to the store, or a silent OVSDB, is no problem."""

SOON = 14 * 24 * 3600.0
"""Seconds before its end at which a certificate is worth a warning."""

OFTEN = 5
"""Ends of one child's processes within 10 minutes that are more than a mishap."""

LONG_AWAY = 0.5
"""Seconds without its flows at a time that an instance feels."""

_NEW = "new instances get no metadata"


class ProblemLevel(IntEnum):
    """Which guests feel a problem."""

    WARNING = 1
    """None yet."""
    NEW = 2
    """New instances, and those whose ports change."""
    ERROR = 3
    """All instances on this host, or some."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong. `text` is one line for operators.

    code: what the doctor calls it. docs/troubleshooting.md has a section on each.
    """

    code: str
    level: ProblemLevel
    text: str


@dataclass(frozen=True, slots=True)
class HostHealth:
    """The health of this host."""

    state: HealthState
    findings: tuple[Problem, ...]
    """The problems, those that most guests feel first."""

    @property
    def ready(self) -> bool:
        """Whether this host serves its instances and would serve new ones."""
        return self.state is HealthState.READY

    @property
    def serving(self) -> bool:
        """Whether this host serves its instances."""
        return self.state in {HealthState.READY, HealthState.NOT_READY}

    @property
    def problems(self) -> list[str]:
        """Why this host is not ready; empty if it is."""
        return [each.text for each in self.findings if each.level > ProblemLevel.WARNING]

    @property
    def warnings(self) -> list[str]:
        """What else is wrong: no guest feels it."""
        return [each.text for each in self.findings if each.level is ProblemLevel.WARNING]


@dataclass(frozen=True, slots=True)
class EndpointView:
    """A Nova endpoint as the workers see it together.

    Of `seen_by` workers, `tried_by` have tried it, and it is healthy for `healthy_for`. `since`, in
    seconds since the epoch, and `last_error` are those of the worker that noticed the last change.
    """

    url: str
    seen_by: int
    tried_by: int
    healthy_for: int
    since: float = 0.0
    last_error: str = ""

    @property
    def failing_for(self) -> int:
        """The number of workers that it fails for."""
        return self.tried_by - self.healthy_for


@dataclass(frozen=True, slots=True)
class AgentView:
    """What the agent knows of itself and of this host.

    `enabled` is None while the configuration is unknown, and `store_disconnected` before the store
    opens.
    """

    host: str = ""
    bridge: str = ""
    enabled: bool | None = None
    generation: str = ""
    children: tuple[Child, ...] = ()
    serves: Mapping[IpVersion, bool] = field(default_factory=dict)
    file: Mapping[str, str] = field(default_factory=dict)
    """The values of the configuration file that the agent uses."""
    store_disconnected: float | None = None
    """Seconds for which the store, or the source of port records if it is another, has not been
    connected; 0 while it is."""
    ovsdb_silent: float = 0.0
    """Seconds for which ovsdb-server has not answered; 0 if it answers."""
    generation_wanted: str = ""
    """Of the configuration in the store, as far as it is valid."""
    idle_because: str = ""
    """Why the agent serves no guest; empty if it does, or tries to."""
    network: tuple[str, ...] = ()
    """What is missing in this host's network: bridge, metadata port, listening sockets."""
    workers_wanted: int = 0
    workers_serving: int = 0
    endpoints: tuple[EndpointView, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    time: float = 0.0
    """The present time, in seconds since the epoch."""
    configuration_problems: tuple[str, ...] = ()
    """What is wrong in the deployment's configuration; the agent keeps the values it has."""
    reconciliation: ReconciliationReport | None = None
    """Neutron's last one; None while it is unknown, or if records do not come from Neutron."""
    controller: ControllerReport | None = None
    """The last report of the agent's flow controller; None before its first."""

    @property
    def flow_controller_up(self) -> bool | None:
        """Whether the agent's flow controller runs and answers; None if the agent has none."""
        controllers = [child for child in self.children if child.name == FLOW_CONTROLLER]
        if not controllers:
            return None
        return all(child.running and not child.hangs for child in controllers)


def health(view: AgentView) -> HostHealth:
    """Return the health of a host of which the agent knows this."""
    if view.enabled is False:
        why = view.idle_because or "disabled: the agent is removing what it made on this host"
        return HostHealth(HealthState.DISABLED, (Problem("disabled", ProblemLevel.ERROR, why),))
    found = sorted(_problems(view), key=lambda each: -each.level)
    worst = found[0].level if found else ProblemLevel.WARNING
    states = {
        ProblemLevel.WARNING: HealthState.READY,
        ProblemLevel.NEW: HealthState.NOT_READY,
        ProblemLevel.ERROR: HealthState.NOT_SERVING,
    }
    return HostHealth(states[worst], tuple(found))


def _problems(view: AgentView) -> Iterator[Problem]:
    if view.idle_because:
        yield Problem("agent-not-ready", ProblemLevel.ERROR, view.idle_because)
        return
    if view.ovsdb_silent > BRIEFLY:
        text = "OVSDB does not answer the agent, which confirms no identity: guests get 503"
        yield Problem("ovsdb-unreachable", ProblemLevel.ERROR, text)
    for text in view.network:
        yield Problem("agent-not-ready", ProblemLevel.ERROR, text)
    # A worker that hangs is a problem of its own.
    hanging = sum(child.hangs and child.name != FLOW_CONTROLLER for child in view.children)
    if view.workers_serving + hanging < view.workers_wanted:
        text = f"{view.workers_serving} of {view.workers_wanted} proxy workers are serving"
        yield Problem("workers-missing", ProblemLevel.ERROR, text)
    yield from _of_children(view)
    yield from _of_controller(view)
    yield from _of_endpoints(view)
    for each in view.certificates:
        if each.until < view.time + SOON:
            verb = "expires" if each.until > view.time else "expired"
            text = f"the certificate {each.use} ({each.place}) {verb} on {utc(each.until)}"
            code = "certificate-expires"
            if each.use.startswith("nova"):
                code = "nova-certificate-expires"
            yield Problem(code, ProblemLevel.WARNING, text)
    for problem in view.configuration_problems:
        text = f"configuration: {problem}; the agent keeps the values it has"
        yield Problem("value-ignored", ProblemLevel.WARNING, text)
    if view.store_disconnected is not None and view.store_disconnected > BRIEFLY:
        text = f"the agent has no connection to the source of port records: {_NEW}"
        yield Problem("store-unreachable", ProblemLevel.NEW, text)
    if view.reconciliation and not view.store_disconnected:
        yield from of_reconciliation(view.reconciliation, view.time)


def of_reconciliation(report: ReconciliationReport, now: float) -> Iterator[Problem]:
    """Yield the problems of Neutron's last reconciliation, which no guest feels by itself."""
    if report.is_late(now):
        text = f"no server of Neutron has reconciled port records since {utc(report.time)}"
        yield Problem("reconciliation-late", ProblemLevel.WARNING, text)
    withheld = report.ports.get("withheld", 0)
    if withheld:
        text = (
            f"Neutron's server {report.server} has no compute port for {withheld} port records, "
            "most of all, and has removed none of them"
        )
        yield Problem("removals-withheld", ProblemLevel.WARNING, text)


def _of_children(view: AgentView) -> Iterator[Problem]:
    for child in view.children:
        if child.name == FLOW_CONTROLLER:
            level, stuck = ProblemLevel.NEW, "controller-stuck"
        else:
            level, stuck = ProblemLevel.ERROR, "worker-stuck"
        if child.hangs:
            yield Problem(stuck, level, f"{child.name}, pid {child.pid}, hangs")
        if child.ends >= OFTEN:
            text = (
                f"the {child.name} has ended {count_of(child.ends, 'time')} within 10 minutes; the "
                f"last process {child.last_end}"
            )
            yield Problem("process-ends-again", ProblemLevel.WARNING, text)
        if not child.running:
            text = f"the {child.name} has ended, and is about to be started again"
            if child.name == FLOW_CONTROLLER:
                text += f": {_NEW} meanwhile"
                yield Problem("controller-not-running", ProblemLevel.NEW, text)
            else:
                yield Problem("workers-missing", ProblemLevel.WARNING, text)


def _of_controller(view: AgentView) -> Iterator[Problem]:
    if not view.flow_controller_up:
        return  # there is none, or that is a problem already
    report = view.controller
    if report is not None and report.absence > LONG_AWAY:
        text = (
            f"another program deletes our flows on bridge {view.bridge} again and again: they are "
            f"away for {shown_seconds(report.absence)} each time"
        )
        yield Problem("flows-deleted", ProblemLevel.ERROR, text)
    code, why = "agent-not-ready", ""
    if report is None:
        why = "the flow controller has not reported yet"
    elif not report.connected and not view.network:
        why = f"the flow controller has no connection to bridge {view.bridge}"
    elif not report.decided:
        why = "the flow controller has not read OVSDB and the port records yet"
    elif report.refusing:
        code = "flows-refused"
        why = f"bridge {view.bridge} refuses messages of the flow controller ({report.refusal})"
    if why:
        yield Problem(code, ProblemLevel.NEW, f"{why}: {_NEW}")


def _of_endpoints(view: AgentView) -> Iterator[Problem]:
    if not view.workers_serving:
        return  # without a worker that reports them
    if any(each.healthy_for for each in view.endpoints):
        for each in view.endpoints:
            if each.failing_for:
                yield Problem(
                    "no-answer-from-nova",
                    ProblemLevel.WARNING,
                    f"Nova at {each.url} fails: {each.last_error}",
                )
        return
    urls = ", ".join(each.url for each in view.endpoints)
    if view.endpoints and all(each.tried_by for each in view.endpoints):
        yield Problem(
            "no-answer-from-nova", ProblemLevel.ERROR, f"no Nova endpoint answers: {urls}"
        )
    else:
        yield Problem(
            "no-answer-from-nova",
            ProblemLevel.NEW,
            f"no Nova endpoint has answered yet: {urls or 'no worker has reported any'}",
        )
