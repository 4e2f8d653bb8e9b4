"""`ovs-metadata migrate`: from Neutron's metadata agent to ours, host by host, and back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ovs_metadata.agent.cli.common import Failure, Settings, output_format, print_json
from ovs_metadata.agent.cli.mn_conf_target import host_of, opened

if TYPE_CHECKING:
    from ovs_metadata.agent.doctor.finding import Diagnosis
    from ovs_metadata.agent.migration.host import Announcement
    from ovs_metadata.agent.migration.prerequisites import Check
    from ovs_metadata.store.interface import Store

_Command = TypeVar("_Command", bound=Callable[..., Any])

ini_option = click.option(
    "--metadata-agent-ini",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Configuration file of Neutron's metadata agent. May be given several times, as its "
    "--config-file: a later file wins.  [default: /etc/neutron/metadata_agent.ini]",
)
url_option = click.option(
    "--nova-url",
    metavar="URL",
    help="Use this endpoint of Nova's, or several separated by commas, and not the file's.",
)
host_option = click.option(
    "--host", metavar="HOST", help="This hypervisor.  [default: the one you are on]"
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the agent.",
)


def _source_options(command: _Command) -> _Command:
    return ini_option(url_option(command))


@click.group()
def migrate() -> None:
    """Move from Neutron's metadata agent to this one, host by host, and back.

    In this order: plan, on a host that has Neutron's metadata_agent.ini; apply, once; then on each
    hypervisor plan, to check it, and enable. back undoes enable.
    """


@migrate.command("plan")
@_source_options
@output_format
@click.pass_obj
def plan(settings: Settings, *, files: tuple[Path, ...], nova_url: str | None, output: str) -> None:
    """Show what would be configured, and check this host. Changes nothing.

    Where there is no metadata_agent.ini, and none is named, what is configured already is checked.

    Exit status: 0 this host can be enabled, 1 it cannot, 2 usage, 3 the store cannot be reached.
    """
    with opened(settings) as store:
        values, notes = _wanted(settings, store, files, nova_url)
        checks = _checked(settings, store, values)
    if output == "json":
        shown = {"configuration": _masked(values), "remarks": notes}
        print_json({**shown, "checks": [check.document() for check in checks]})
    else:
        _show_values(values, notes)
        _show_checks(checks)
    _stop_at_failures(checks)


@migrate.command("apply")
@_source_options
@click.option("--force", is_flag=True, help="Replace values that are configured differently.")
@click.pass_obj
def apply(
    settings: Settings, *, files: tuple[Path, ...], nova_url: str | None, force: bool
) -> None:
    """Write Neutron's configuration into the template "default". Enables nothing.

    Refuses if that template enables all hosts, for they would be using it at once.
    """
    from ovs_metadata.host.documents import change  # noqa: PLC0415
    from ovs_metadata.host.sources import DEFAULT_TEMPLATE, ENABLED  # noqa: PLC0415
    from ovs_metadata.store.layout import config_template_path  # noqa: PLC0415

    values, notes = _from_neutron(files, nova_url)

    def changed(before: Mapping[str, Any]) -> Mapping[str, Any]:
        if before.get(ENABLED):
            raise Failure(
                f'the template "{DEFAULT_TEMPLATE}" enables all hosts already: this is no '
                "migration; change values with mn-conf"
            )
        other = [name for name, value in values.items() if before.get(name, value) != value]
        if other and not force:
            raise Failure(
                f"configured differently already: {', '.join(other)}; see mn-conf get -t "
                f"{DEFAULT_TEMPLATE}, or replace them with --force"
            )
        return {**before, **values}

    with opened(settings) as store:
        change(store, config_template_path(DEFAULT_TEMPLATE), changed)
    _show_values(values, notes)
    click.echo(
        f'\nWritten into the template "{DEFAULT_TEMPLATE}"; nothing is enabled. Next, on each '
        "hypervisor:\n  ovs-metadata migrate enable"
    )


@migrate.command("enable")
@host_option
@timeout_option
@click.option("--force", is_flag=True, help="Enable it although a check of it has failed.")
@click.pass_obj
def enable(settings: Settings, *, host: str | None, timeout: float, force: bool) -> None:
    """Have a hypervisor's guests served by our agent, and verify it.

    The host you are on is checked before, as by plan, and by doctor afterwards. Of another one is
    only seen what its agent says of itself.

    Exit status: 0 it serves, 1 it does not or was not enabled, 2 usage, 3 the store cannot be
    reached.
    """
    from ovs_metadata.agent.migration.host import switch_host  # noqa: PLC0415

    name, here = _host(settings, host)
    with opened(settings) as store:
        if here:
            checks = _checked(settings, store, _in_force(store, name))
            _show_checks(checks)
            if not force:
                _stop_at_failures(checks)
        switch_host(store, name, enabled=True)
        said = _wait_for_agent(store, name, timeout, enabled=True)
    click.echo(f"{name} is enabled; {said.ports_served} ports are served.")
    if here:
        _verify(settings, timeout)
        click.echo("Verified by doctor.")
    else:
        click.echo(f"Verify it on {name}: ovs-metadata doctor")
    click.echo(f"Back to Neutron's: ovs-metadata migrate back --host {name}")


@migrate.command("back")
@host_option
@timeout_option
@click.pass_obj
def back(settings: Settings, *, host: str | None, timeout: float) -> None:
    """Have a hypervisor's guests served by Neutron's metadata agent again.

    Whatever the templates say, this host is then disabled. Requests in flight are finished.

    Exit status: 0 nothing of ours is in the way any more, 1 something is, 2 usage, 3 the store
    cannot be reached.
    """
    from ovs_metadata.agent.migration.host import (  # noqa: PLC0415
        nothing_left,
        served_ports,
        switch_host,
        wait_until,
    )
    from ovs_metadata.agent.migration.neighbours import ask_for_guests  # noqa: PLC0415

    name, here = _host(settings, host)
    config = settings.load_config()
    with opened(settings) as store:
        ports = served_ports(config, store) if here else []
        switch_host(store, name, enabled=False)
        _wait_for_agent(store, name, timeout, enabled=False)
    if here:
        if not wait_until(lambda: nothing_left(config), timeout):
            raise Failure(
                f"{name} is disabled, but flows or the metadata port are still there after "
                f"{timeout:g} s: see the agent's log; with the agent stopped, "
                "ovs-metadata-agent --cleanup removes them"
            )
        try:
            ask_for_guests(config, ports)
        except OSError as error:
            click.echo(f"guests keep our MAC address for up to a minute: {error}", err=True)
    click.echo(f"{name} is disabled: its guests are Neutron's to serve.")


def _from_neutron(
    files: tuple[Path, ...], nova_url: str | None
) -> tuple[Mapping[str, Any], list[str]]:
    """Neutron's configuration as keys of ours, and what is to be said of it."""
    from ovs_metadata.agent.migration.neutron_ini import (  # noqa: PLC0415
        DEFAULT_FILE,
        NeutronIniError,
        equivalent,
        read_neutron_ini,
        remarks,
    )

    try:
        neutron = read_neutron_ini(files or (DEFAULT_FILE,))
        return equivalent(neutron, nova_url), remarks(neutron, nova_url)
    except NeutronIniError as error:
        raise Failure(str(error)) from error


def _wanted(
    settings: Settings, store: "Store", files: tuple[Path, ...], nova_url: str | None
) -> tuple[Mapping[str, Any], list[str]]:
    """What is to be in force: as Neutron has it, or else as it is configured already."""
    from ovs_metadata.agent.migration.neutron_ini import DEFAULT_FILE  # noqa: PLC0415

    if files or nova_url or DEFAULT_FILE.exists():
        return _from_neutron(files, nova_url)
    values = _in_force(store, settings.load_config().host)
    return values, [f"there is no {DEFAULT_FILE} here: this is what is configured already"]


def _in_force(store: "Store", host: str) -> Mapping[str, Any]:
    """What is configured for a host, wherever it is from."""
    from ovs_metadata.host.sources import read_sources  # noqa: PLC0415

    values: dict[str, Any] = {}
    for source in reversed(read_sources(store, host)):
        values |= source.values
    return values


def _checked(settings: Settings, store: "Store", values: Mapping[str, Any]) -> "list[Check]":
    from ovs_metadata.agent.migration.prerequisites import check_host  # noqa: PLC0415

    return list(check_host(settings.load_config(), store, settings.store_url(), values))


def _host(settings: Settings, host: str | None) -> tuple[str, bool]:
    """Which host is meant, and whether it is the one we are on."""
    name = host_of(settings, host)
    return name, name == settings.load_config().host


def _wait_for_agent(store: "Store", host: str, timeout: float, *, enabled: bool) -> "Announcement":
    """Wait until the host's agent says that it does as it is told."""
    from ovs_metadata.agent.migration.host import announced, wait_until  # noqa: PLC0415

    def done() -> bool:
        said = announced(store, host)
        return said is not None and said.alive and said.applied and said.enabled is enabled

    wait_until(done, timeout)
    said = announced(store, host)
    word = "enabled" if enabled else "disabled"
    if said is None or not said.alive:
        raise Failure(
            f"{host} is {word} in the store, but its agent is not alive: it will do so when it is "
            "started"
        )
    if not done():
        error = f": {said.last_error}" if said.last_error else ""
        raise Failure(
            f"{host} is {word} in the store, but its agent has not done so within {timeout:g} s"
            f"{error}; see its log"
        )
    return said


def _verify(settings: Settings, timeout: float) -> None:
    """Wait until the doctor finds nothing broken."""
    from ovs_metadata.agent.doctor.diagnosis import Order, diagnose  # noqa: PLC0415
    from ovs_metadata.agent.doctor.finding import Severity  # noqa: PLC0415
    from ovs_metadata.agent.migration.host import wait_until  # noqa: PLC0415

    config = settings.load_config()
    last: list[Diagnosis] = []

    def well() -> bool:
        last[:] = [diagnose(config, Order("", settings.store))]
        return last[0].exit_status < Severity.ERROR

    is_well = wait_until(well, timeout)
    for finding in last[0].findings:
        if finding.severity is not Severity.NOTE:
            subject = f" {finding.subject}" if finding.subject else ""
            click.echo(f"{finding.severity.word}: {finding.fault.name}{subject}: {finding.why}")
    if not is_well:
        raise Failure(
            "the host is enabled, and something is broken: ovs-metadata doctor says more; "
            "ovs-metadata migrate back gives the guests back to Neutron's agent"
        )


def _masked(values: Mapping[str, Any]) -> dict[str, Any]:
    from ovs_metadata.agent.conf.schema import known_keys  # noqa: PLC0415

    known = known_keys()
    return {
        name: known[name].shown(value) if name in known else value for name, value in values.items()
    }


def _show_values(values: Mapping[str, Any], notes: list[str]) -> None:
    from ovs_metadata.agent.conf.hocon import render  # noqa: PLC0415

    click.echo(render(_masked(values)), nl=False)
    for note in notes:
        click.echo(f"note: {note}")


def _show_checks(checks: "list[Check]") -> None:
    for check in checks:
        text = f": {check.text}" if check.text else ""
        click.echo(f"{check.state:7}  {check.name}{text}")


def _stop_at_failures(checks: "list[Check]") -> None:
    failed = [check.name for check in checks if check.state == "failed"]
    if failed:
        raise Failure(f"not ready, nothing was changed: {', '.join(failed)}")
