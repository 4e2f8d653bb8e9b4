"""What the verbs of `ovs-metadata migrate` do. What stops one ends the command, with its reason."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovs_metadata.agent.network.cleanup import CleanupError
from ovs_metadata.cli.common import (
    CliContext,
    CommandError,
    echo,
)
from ovs_metadata.cli.doctor.evidence import DiagnosisOptions
from ovs_metadata.cli.doctor.hops import diagnose
from ovs_metadata.cli.doctor.report import Diagnosis, Severity
from ovs_metadata.cli.listing import Listing
from ovs_metadata.cli.migrate.neighbours import (
    ASK_AGAIN_AFTER,
    ask_for_guests,
)
from ovs_metadata.cli.migrate.neutron_ini import differing
from ovs_metadata.cli.migrate.prerequisites import Check, check_host
from ovs_metadata.cli.migrate.switchover import (
    HostAgent,
    Unguarded,
    announced,
    hooks_are_withdrawn,
    remove_without_agent,
    served_ports,
    switch_host,
    unguarded,
    wait_until,
    what_is_left,
)
from ovs_metadata.cli.migrate.values import (
    effective_values,
    from_neutron,
    masked,
    show_values,
    wanted_values,
)
from ovs_metadata.cli.mn_conf.target import Target, change_document, host_of, opened
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import ServedPort
from ovs_metadata.quantities import count_of
from ovs_metadata.store.configuration import (
    DEFAULT_TEMPLATE,
    ENABLED,
)
from ovs_metadata.store.store import Store

_IN_THE_WAY = (
    ", and until then its flows keep requests from Neutron's proxy: ovs-metadata migrate back on "
    "that host, or ovs-metadata-agent --cleanup, removes them"
)


def plan(cli: CliContext, files: tuple[Path, ...], nova_url: str | None, listing: Listing) -> None:
    """Print what would be configured, and this host's checks; a failed one ends the command."""
    with opened(cli) as store:
        values, notes = wanted_values(cli, store, files, nova_url)
        checks = _checked(cli, store, values)
        warning = unguarded(served_ports(cli.load_config(), store), Unguarded.PLANNED)
    notes = [*notes, *([warning] if warning else [])]
    if listing.is_report:
        show_values(values, notes)
        _show_checks(checks)
    else:
        shown = {"configuration": masked(values), "remarks": notes}
        listing.show(
            ("check", "state", "why"),
            ([check.name, check.state, check.text] for check in checks),
            {**shown, "checks": [check.document() for check in checks]},
        )
    _stop_at_failures(checks)


def apply(cli: CliContext, files: tuple[Path, ...], nova_url: str | None, *, force: bool) -> None:
    """Write Neutron's configuration into the template "default"."""
    values, notes = from_neutron(files, nova_url)
    removed: list[str] = []

    def changed(before: Mapping[str, Any]) -> Mapping[str, Any]:
        if before.get(ENABLED):
            raise CommandError(
                f'the template "{DEFAULT_TEMPLATE}" enables all hosts already: this is no '
                "migration; change values with mn-conf"
            )
        other = differing(before, values)
        if other and not force:
            raise CommandError(
                f"configured differently already: {', '.join(other)}; see mn-conf get -t "
                f"{DEFAULT_TEMPLATE}, or replace them with --force"
            )
        removed[:] = [name for name in other if name not in values]
        kept = {name: value for name, value in before.items() if name not in removed}
        return {**kept, **values}

    with opened(cli) as store:
        warnings = change_document(store, Target(None, DEFAULT_TEMPLATE), changed)
    for warning in warnings:
        echo(f"Warning: {warning}", err=True)
    show_values(values, [*(f"{name} is at its default again" for name in removed), *notes])
    echo(
        "",
        f'Written into the template "{DEFAULT_TEMPLATE}"; nothing is enabled. Next, on each '
        "hypervisor:",
        "  ovs-metadata migrate enable",
    )


def enable(cli: CliContext, host: str | None, timeout: float, *, force: bool) -> None:
    """Have our agent serve a host, and wait until it does, up to `timeout` seconds."""
    name, here = _host(cli, host)
    with opened(cli) as store:
        if here:
            checks = _checked(cli, store, effective_values(store, name))
            _show_checks(checks)
            if not force:
                _stop_at_failures(checks)
        switch_host(store, name, enabled=True)
        agent = _wait_for_agent(store, name, timeout, enabled=True)
        ports = served_ports(cli.load_config(), store) if here else []
    echo(f"{name} is enabled; {count_of(agent.ports_served, 'port')} served.")
    warning = unguarded(ports, Unguarded.ENABLED)
    if warning:
        echo(warning, err=True)
    if here:
        _verify(cli, timeout)
        echo("Verified by doctor.")
    else:
        echo(f"Verify it on {name}: ovs-metadata doctor")
    echo(f"Back to Neutron's: ovs-metadata migrate back --host {name}")


def back(cli: CliContext, host: str | None, timeout: float) -> None:
    """Disable a host, and wait until nothing of us is left there, up to `timeout` seconds."""
    name, here = _host(cli, host)
    config = cli.load_config()
    with opened(cli) as store:
        ports = served_ports(config, store) if here else []
        warning = unguarded(ports, Unguarded.BACK)
        if warning:
            echo(warning, err=True)
        switch_host(store, name, enabled=False)
        begun = time.monotonic()
        agent_runs = not (here and _removed_without_agent(name, config))
        if here:
            # Now, and not when the last request in flight is finished.
            _ask_for_guests(config, ports, timeout)
        if agent_runs:
            left = timeout - (time.monotonic() - begun)
            _wait_for_agent(store, name, max(left, 1.0), enabled=False)
    if here:
        _wait_until_nothing_is_left(name, config, timeout)
    echo(f"{name} is disabled: its guests are Neutron's to serve.")


def _ask_for_guests(config: Config, ports: list[ServedPort], timeout: float) -> None:
    """Have guests ask again for the service's MAC, as soon as our flows no longer answer.

    Twice: a guest that has just learned a MAC may ignore another for a while.
    """
    if wait_until(lambda: hooks_are_withdrawn(config), timeout):
        try:
            ask_for_guests(config, ports)
            time.sleep(ASK_AGAIN_AFTER)
            ask_for_guests(config, ports)
        except OSError as error:
            echo(f"guests keep our MAC address for up to a minute: {error}", err=True)


def _checked(cli: CliContext, store: Store, values: Mapping[str, Any]) -> list[Check]:
    return list(check_host(cli.load_config(), store, cli.store_url(), values))


def _host(cli: CliContext, host: str | None) -> tuple[str, bool]:
    """Which host is meant, and whether it is the one we are on."""
    name = host_of(cli, host)
    return name, name == cli.load_config().host


def _wait_for_agent(store: Store, host: str, timeout: float, *, enabled: bool) -> HostAgent:
    """Wait until the host's agent announces that it has applied `enabled`."""

    def done() -> bool:
        agent = announced(store, host)
        return agent is not None and agent.alive and agent.applied and agent.enabled is enabled

    wait_until(done, timeout)
    agent = announced(store, host)
    word = "enabled" if enabled else "disabled"
    if agent is None or not agent.alive:
        raise CommandError(
            f"{host} is {word} in the store, but its agent is not alive: it will do so when it is "
            f"started{'' if enabled else _IN_THE_WAY}"
        )
    if not done():
        error = f": {agent.last_error}" if agent.last_error else ""
        raise CommandError(
            f"{host} is {word} in the store, but its agent has not done so in time{error}; see its "
            "log"
        )
    return agent


def _removed_without_agent(host: str, config: Config) -> bool:
    """Remove every trace if no agent runs here; return whether none runs."""
    try:
        without = remove_without_agent(config)
    except OSError as error:
        raise CommandError(
            f"{host} is disabled in the store; it is unknown whether an agent runs here: "
            f"{error}; run this as root"
        ) from error
    except CleanupError as error:
        raise CommandError(
            f"{host} is disabled, and no agent runs to remove what is here; not all of it could be "
            f"removed: {error}; correct that, then run this again"
        ) from error
    if without:
        echo("No agent runs here: what it had left was removed.")
    return without


def _wait_until_nothing_is_left(host: str, config: Config, timeout: float) -> None:
    if not wait_until(lambda: not what_is_left(config), timeout):
        raise CommandError(
            f"{host} is disabled, but after {timeout:g} s its guests may still be served by us: "
            f"{what_is_left(config)}; see the agent's log; with the agent stopped, "
            "ovs-metadata-agent --cleanup removes it"
        )


def _verify(cli: CliContext, timeout: float) -> None:
    """Wait until the doctor finds nothing broken."""
    config = cli.load_config()
    last: list[Diagnosis] = []

    def well() -> bool:
        last[:] = [diagnose(config, DiagnosisOptions("", cli.store))]
        return last[0].exit_status < Severity.ERROR

    is_well = wait_until(well, timeout)
    for finding in last[0].findings:
        if finding.severity is not Severity.NOTE:
            subject = f" {finding.subject}" if finding.subject else ""
            echo(f"{finding.severity.word}: {finding.fault.name}{subject}: {finding.why}")
    if not is_well:
        raise CommandError(
            "the host is enabled, and something is broken: ovs-metadata doctor says more; "
            "ovs-metadata migrate back gives the guests back to Neutron's agent"
        )


def _show_checks(checks: list[Check]) -> None:
    for check in checks:
        text = f": {check.text}" if check.text else ""
        echo(f"{check.state:7}  {check.name}{text}")


def _stop_at_failures(checks: list[Check]) -> None:
    failed = [check.name for check in checks if check.state == "failed"]
    if failed:
        raise CommandError(f"not ready, nothing was changed: {', '.join(failed)}")
