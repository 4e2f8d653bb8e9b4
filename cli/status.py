"""`ovs-metadata status`: this host at a glance, whether its agent runs or not."""

import contextlib
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click

from ovs_metadata.agent.config.effective import effective
from ovs_metadata.agent.health_state import ChildState, HealthState, child_state
from ovs_metadata.cli.admin_client import AgentUnreachable, ask
from ovs_metadata.cli.common import (
    FAILURE,
    CliContext,
    CommandError,
    echo,
)
from ovs_metadata.cli.doctor.agent import AgentFacts, read_agent_at_rest, read_processes
from ovs_metadata.cli.doctor.agent import check as check_agent
from ovs_metadata.cli.host_view import Host, bridge_of, look, read_host
from ovs_metadata.cli.listing import Cell, Listing, record_options
from ovs_metadata.host.config import Config
from ovs_metadata.quantities import count_of, shown_seconds
from ovs_metadata.store.configuration import read_sources
from ovs_metadata.store.documents import MalformedDocument
from ovs_metadata.store.store import Store
from ovs_metadata.utc import utc

MAX_LISTED = 20
"""How many ports that are not served are listed for people."""

START_IT = "start it with: systemctl start ovs-metadata-agent"


WAIT_LIMIT = 60.0
"""Seconds that --wait waits, unless it is given another number."""

WATCH_INTERVAL = 5.0
"""Seconds between two looks with --watch."""

WAIT_INTERVAL = 0.5
"""Seconds between two questions to the agent with --wait."""


_seconds = partial(click.option, is_flag=False, metavar="[SECONDS]")
"""An option that has a number of seconds or, given alone, its `flag_value`."""


@click.command()
@record_options
@_seconds(
    "--watch",
    type=click.FloatRange(min=1.0),
    flag_value=WATCH_INTERVAL,
    help=f"Show it again every SECONDS ({WATCH_INTERVAL:g} if none are given), until interrupted.",
)
@_seconds(
    "--wait",
    type=click.FloatRange(min=0.0),
    flag_value=WAIT_LIMIT,
    help=f"Wait until the host is ready, SECONDS at most ({WAIT_LIMIT:g} if none are given), and "
    "show it then.",
)
@click.pass_context
def status(
    context: click.Context, listing: Listing, watch: float | None, wait: float | None
) -> None:
    """Show the state of this host: agent, ports, requests, Nova's endpoints.

    Works with the agent down, and reports that.

    With --format json, --watch prints an object on a line each time.

    Exit status: 0 the host is ready: it serves its instances, and would serve new ones; 1 it is
    not, or that is unknown; 2 usage. A host that is disabled is not ready.
    """
    cli: CliContext = context.obj
    config = cli.load_config()
    if watch is not None and wait is not None:
        raise click.UsageError("--watch does not go with --wait.")
    if wait is not None:
        _wait_until_ready(config, wait)
    if watch is None:
        report = _look(config, cli).report()
        _show(report, listing)
    else:
        report = _watch(config, cli, listing, watch)
    if not report["ready"]:
        context.exit(FAILURE)


def _wait_until_ready(config: Config, seconds: float) -> None:
    """Return when the agent reports that this host is ready, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        agent_view, _silence = _ask(config)
        left = deadline - time.monotonic()
        if left <= 0 or (agent_view and agent_view["ready"]):
            return
        time.sleep(min(WAIT_INTERVAL, left))


def _watch(config: Config, cli: CliContext, listing: Listing, seconds: float) -> dict[str, Any]:
    """Show this host again and again; return the last report when the user interrupts."""
    report: dict[str, Any] = {"ready": False}
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            report = _look(config, cli).report()
            if not listing.is_report:
                _show(report, replace(listing, indented=False))
            else:
                click.clear()  # only on a terminal
                echo(f"{utc(time.time())}, every {shown_seconds(seconds)}; Ctrl+C ends", "")
                _print(report)
            time.sleep(seconds)
    return report


def _show(report: dict[str, Any], listing: Listing) -> None:
    if listing.is_report:
        _print(report)
    else:
        listing.show_one(_fields(report), report)


def _fields(report: dict[str, Any]) -> list[tuple[str, Cell]]:
    """The report, field by field."""
    lines: dict[str, list[str]] = {}
    for name, text in _lines(report):
        lines.setdefault(name or next(reversed(lines)), []).append(text)
    not_served = [
        f"{each['port_id'] or each['interface']}: {each['why_not']}"
        for each in report["not_served"]
    ]
    return [
        *((name, report[name]) for name in ("host", "bridge", "state", "problems", "warnings")),
        *((name, each[0] if len(each) == 1 else each) for name, each in lines.items()),
        ("not served", not_served),
    ]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of this host; what could not be read is None.

    agent_view: what the agent reports; silence: why it reports nothing. processes: read if it
    reports nothing. unseen: why `host` could not be read.
    """

    config: Config
    agent_view: dict[str, Any] | None
    silence: str
    processes: AgentFacts | None
    host: Host | None
    unseen: str
    enabled: bool | None

    @property
    def agent_pid(self) -> int | None:
        """The agent's pid; None if it does not run, or that is unknown."""
        if self.agent_view:
            return int(self.agent_view["pid"])
        agent = self.processes.agent if self.processes else None
        return agent.pid if agent else None

    def report(self) -> dict[str, Any]:
        """Return it as one JSON object; it is described in docs/status.md."""
        problems = self._problems()
        return {
            "host": self.config.host,
            "bridge": self.config.bridge,
            "state": self._state(problems),
            "serving": self.agent_view["serving"] if self.agent_view else not problems,
            "ready": self.agent_view["ready"] if self.agent_view else not problems,
            "problems": problems,
            "warnings": self._warnings(),
            "enabled": self.enabled,
            "agent_pid": self.agent_pid,
            "agent": self.agent_view,
            "metadata_ofport": self.host.metadata_ofport if self.host else None,
            "ports": self.agent_view["ports"] if self.agent_view else self._ports(),
            "not_served": self._not_served(),
        }

    def _state(self, problems: list[str]) -> str:
        if self.agent_view:
            return str(self.agent_view["state"])
        state = HealthState.NOT_SERVING if problems else HealthState.READY
        return str(state.value)

    def _problems(self) -> list[str]:
        """What keeps guests from being served, or from telling whether they are."""
        if self.agent_view:
            return list(self.agent_view["problems"])
        problems = self._of_processes()
        if self.enabled is False:
            problems.append("the deployment's configuration disables the service on this host")
        if self.host is None:
            problems.append(self.unseen)
        elif self.host.metadata_ofport is None and self.enabled is not False:
            problems.append(self.host.why_no_metadata_port)
        return problems

    def _of_processes(self) -> list[str]:
        """Problems of the agent and its children, as their processes show."""
        if self.processes is None:
            return [f"it is unknown whether the agent runs: {self.silence}"]
        agent = self.processes.agent
        if agent is None:
            return [f"the agent is not running, so guests get no answers; {START_IT}"]
        enabled = self.enabled is not False
        found = check_agent(self.processes, self.config.controller, enabled=enabled)
        problems = [f"{finding.fault.what.rstrip('.')}: {finding.why}" for finding in found]
        if not agent.stopped:
            problems.append(f"the agent, pid {agent.pid}, does not answer: {self.silence}")
        return problems

    def _warnings(self) -> list[str]:
        """Other problems."""
        if self.agent_view is None:
            return []
        unseen = [self.unseen] if self.host is None else []
        return [*unseen, *self.agent_view["warnings"]]

    def _ports(self) -> dict[str, int] | None:
        """Count ports as the agent would."""
        if self.host is None:
            return None
        ours = [each for each in self.host.port_statuses if each.is_instance_port]
        served = sum(each.reason is None for each in ours)
        refused = len(self.host.host_ports.refused)
        return {"served": served, "pending": len(ours) - served - refused, "refused": refused}

    def _not_served(self) -> list[dict[str, Any]]:
        """Ports that would be served if something were in order."""
        port_statuses = self.host.port_statuses if self.host else ()
        return [each.document() for each in port_statuses if each.is_instance_port and each.reason]


def _look(config: Config, cli: CliContext) -> Seen:
    agent_view, silence = _ask(config)
    if agent_view:
        host, unseen = None, ""
        try:
            host = look(cli)
        except CommandError as failure:
            unseen = failure.message
        return Seen(config, agent_view, silence, None, host, unseen, agent_view["enabled"])
    host, unseen, enabled = _look_without_agent(config, cli)
    processes = None
    try:
        processes = _processes(config, enabled)
    except OSError as error:
        silence += f"; {config.state_dir}: {error.strerror}"
    if enabled is None and processes:
        enabled = processes.keeps_enabled
    return Seen(config, agent_view, silence, processes, host, unseen, enabled)


def _ask(config: Config) -> tuple[dict[str, Any] | None, str]:
    """What the agent of this host says, or why it says nothing."""
    try:
        agent_view = ask(config.admin_socket, "/status")
    except AgentUnreachable as error:
        return None, str(error)
    if agent_view["host"] != config.host:
        return None, f"the agent of another host, {agent_view['host']}, answers"
    return agent_view, ""


def _look_without_agent(config: Config, cli: CliContext) -> tuple[Host | None, str, bool | None]:
    """Look at this host, say why that cannot be done, and whether the service is enabled.

    The store is opened once, for it may be what does not answer. Whether the service is enabled is
    None if the deployment's configuration cannot be read, or leaves it open.
    """
    bridge, host, unseen, enabled = None, None, "", None
    try:
        bridge = bridge_of(config)
    except CommandError as failure:
        unseen = failure.message
    try:
        with cli.open_store() as store:
            enabled = _is_enabled(config, store)
            host = read_host(config, bridge, store) if bridge else None
    except CommandError as failure:
        unseen = unseen or failure.message
    return host, unseen, enabled


def _processes(config: Config, enabled: bool | None) -> AgentFacts:
    """The agent and its children; again for a moment if one is missing that may be about to start.

    Raises:
        OSError: the lock files cannot be read.
    """
    return read_agent_at_rest(config, read_processes, lambda _facts: enabled is not False)


def _is_enabled(config: Config, store: Store) -> bool | None:
    """Whether the deployment's configuration enables this host; None if it leaves that open."""
    try:
        return effective(read_sources(store, config.host)).enabled
    except MalformedDocument:
        return None


_STATES = {
    HealthState.READY.value: ("serving", "green"),
    HealthState.NOT_READY.value: ("serving, NOT READY for new instances", "yellow"),
    HealthState.DISABLED.value: ("DISABLED", "yellow"),
}


def _print(report: dict[str, Any]) -> None:
    state, color = _STATES.get(report["state"], ("NOT SERVING", "red"))
    echo(f"Host {report['host']}, bridge {report['bridge']}: ", state=state, color=color)
    for problem in report["problems"]:
        echo(f"  problem: {problem}")
    for warning in report["warnings"]:
        echo(f"  warning: {warning}")
    echo()
    for name, text in _lines(report):
        echo(f"{name + ':' if name else '':<17} {text}")
    not_served = report["not_served"]
    if not_served:
        echo("", "Ports that are not served:")
    for each in not_served[:MAX_LISTED]:
        echo(f"  {each['port_id'] or each['interface']}: {each['why_not']}")
    if not_served[MAX_LISTED:]:
        echo(f"  and {len(not_served[MAX_LISTED:])} more: see --format json")
    errors = report["agent"]["errors"] if report["agent"] else ()
    if errors:
        echo("", "The agent's last errors:")
    for error in errors[:3]:
        echo(f"  {error['time']} {error['message']}")


def _lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The report line by line: what, and how it is."""
    agent = report["agent"]
    enabled = {True: "enabled", False: "disabled", None: "not known"}[report["enabled"]]
    ofport = report["metadata_ofport"]
    lines = [
        ("agent", _agent(agent, report["agent_pid"])),
        ("configuration", enabled + (f", {_generation(agent)}" if agent else "")),
        ("metadata port", f"ofport {ofport}" if ofport else "not there"),
        ("ports", _ports(report["ports"], running=agent is not None)),
    ]
    if not agent:
        return lines
    lines += [
        ("store", _store(agent["store_disconnected"])),
        ("children", ", ".join(map(_child, agent["children"])) or "none"),
        ("workers", f"{agent['workers']} serving, {count_of(agent['connections'], 'connection')}"),
        ("requests", _requests(agent)),
    ]
    for number, endpoint in enumerate(agent["endpoints"]):
        lines.append(("" if number else "Nova", _endpoint(endpoint)))
    return lines


def _agent(agent: dict[str, Any] | None, pid: int | None) -> str:
    if agent:
        return f"{agent['version']}, pid {pid}, since {agent['started']}"
    return f"pid {pid}, which does not report its state" if pid else "does not answer"


def _generation(agent: dict[str, Any]) -> str:
    applied, wanted = agent["generation"], agent["generation_wanted"]
    found = f"generation {applied or 'none'}"
    return found if wanted in {"", applied} else f"{found}, wanted is {wanted}"


def _child(child: dict[str, Any]) -> str:
    state = child_state(child)
    return child["name"] if state is ChildState.RUNNING else f"{child['name']} ({state.value})"


def _store(disconnected: float | None) -> str:
    if disconnected is None:
        return "not opened yet"
    return f"no connection for {shown_seconds(disconnected)}" if disconnected else "connected"


def _ports(ports: dict[str, int] | None, *, running: bool) -> str:
    if ports is None:
        return "not known"
    counts = f"{ports['served']} served, {ports['pending']} pending, {ports['refused']} refused"
    return counts if running else f"{counts}, if the agent ran"


def _requests(agent: dict[str, Any]) -> str:
    recent = agent["recent"]
    total = f"{agent['requests']} since the agent started"
    if not recent:
        return total
    rates = (
        f"{recent['requests_per_second']:.1f}/s, {recent['failed_per_second']:.2f}/s failed "
        f"over {recent['seconds']:.0f} s"
    )
    median, slow = recent["median_first_byte_seconds"], recent["p95_first_byte_seconds"]
    times = (
        f"; first byte {shown_seconds(median)}, 95 % within {shown_seconds(slow)}"
        if median is not None
        else ""
    )
    return f"{rates}{times}; {total}"


def _endpoint(endpoint: dict[str, Any]) -> str:
    failing = endpoint["tried_by"] - endpoint["healthy_for"]
    if not endpoint["tried_by"]:
        return f"{endpoint['url']} not tried yet"
    if not failing:
        return f"{endpoint['url']} healthy since {endpoint['since']}"
    return (
        f"{endpoint['url']} failing for {failing} of {count_of(endpoint['seen_by'], 'worker')} "
        f"since {endpoint['since']}: {endpoint['last_error']}"
    )
