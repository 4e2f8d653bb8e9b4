"""`ovs-metadata port sync`: brings all port records, and options of networks, to what Neutron says.

The service plugin does this by itself in a deployment; this is for the first filling of a store,
for a look at what differs, and for repairs.
"""

import contextlib
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from ovs_metadata.cli.common import (
    CliContext,
    CommandError,
    echo,
    output_format,
    print_json,
)
from ovs_metadata.cli.neutron_client import asking_neutron, neutron_options, with_openstacksdk
from ovs_metadata.cli.port import refuse_to_write
from ovs_metadata.publisher.bulk import SyncResult, TooManyRemovals, synchronise
from ovs_metadata.publisher.comparison import Action, Difference
from ovs_metadata.quantities import count_of
from ovs_metadata.store.record import PortRecord

DIFFERENT = 5
"""Exit status of a dry run that found something to do."""

_UNCHANGED = {"unchanged", "leave"}


@click.command("sync")
@click.option(
    "--from-neutron", is_flag=True, required=True, help="Take the ports from Neutron's API."
)
@neutron_options
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--force",
    is_flag=True,
    help="Remove records even when they are most of what there is, and overwrite those that are "
    "newer than Neutron's ports.",
)
@output_format
@click.pass_obj
def sync_ports(
    cli: CliContext,
    *,
    from_neutron: bool,
    os_cloud: str | None,
    os_endpoint: str | None,
    dry_run: bool,
    force: bool,
    output: str,
) -> None:
    """Add, update and remove port records where they differ from Neutron's compute ports.

    The same is done for the tags of networks that set metadata options.

    The credentials must be an administrator's, who sees every port. May be interrupted and run
    again at any time.

    Exit status: 0 done, 1 failure or refusal, 2 usage, 3 the store cannot be reached or
    Neutron cannot be used, 5 with --dry-run when there is something to do.
    """
    assert from_neutron  # noqa: S101 - there is no other source yet
    refuse_to_write(cli)
    refusal = ""
    with asking_neutron(os_cloud, os_endpoint):
        source = with_openstacksdk("ovs_metadata.publisher.neutron_api:ApiPorts")(
            os_cloud, os_endpoint
        )
        with cli.open_store() as store, _progress() as advance:

            def show(difference: Difference) -> None:
                advance(difference.port_id)
                if dry_run and output == "table" and difference.action.value not in _UNCHANGED:
                    echo(_line(difference))

            try:
                result = synchronise(
                    source,
                    store,
                    dry_run=dry_run,
                    force=force,
                    on_difference=show,
                    may_remove=lambda: source.sees_everything,
                )
            except TooManyRemovals as error:
                refusal, result = str(error), error.result
    _summarise(result, output, dry_run=dry_run, refused=bool(refusal))
    if refusal:
        raise CommandError(refusal)
    if dry_run and result.differences:
        raise click.exceptions.Exit(DIFFERENT)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error, if that is a terminal; call it with each port's id.

    The number of ports is unknown, but ids come in order, and are spread evenly.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("Comparing ports"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[ports]} ports"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=2**32, ports=0)
        ports = 0

        def advance(port_id: str) -> None:
            nonlocal ports
            ports += 1
            bar.update(task, completed=int(port_id[:8], 16), ports=ports)

        yield advance


def _line(difference: Difference) -> str:
    """What would be done about a port, on one line."""
    line = f"{difference.action.value} {difference.port_id}"
    if difference.record is None:
        return line
    shown = difference.record
    if not isinstance(difference.stored, PortRecord):
        return f"{line} instance={shown.device_id} revision={shown.revision_number}"
    before, after = difference.stored.document(), shown.document()
    changed = (
        f"{name}: {_value(before[name])} -> {_value(after[name])}"
        for name in sorted(after)
        if before[name] != after[name]
    )
    return f"{line} {', '.join(changed)}"


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _summarise(result: SyncResult, output: str, *, dry_run: bool, refused: bool) -> None:
    ports = result.ports
    if output == "json":
        print_json(
            {
                "dry_run": dry_run,
                **{action.name.lower(): ports[action] for action in Action},
                "outdated": result.refused,
                "networks": {
                    action.name.lower(): count for action, count in result.networks.items()
                },
                "removals_refused": refused,
            }
        )
        return
    would = "would be " if dry_run else ""
    removed = "to be removed" if refused else f"{would}removed"
    echo(
        f"{count_of(ports.total() + result.refused, 'port')} compared: "
        f"{ports[Action.NONE]} unchanged, "
        f"{ports[Action.ADD]} {would}added, {ports[Action.UPDATE]} {would}updated, "
        f"{ports[Action.REMOVE]} {removed}"
    )
    if ports[Action.LEAVE]:
        echo(f"left as they are, being newer than Neutron's ports: {ports[Action.LEAVE]}")
    if any(result.networks.values()):
        counts = (f"{count} {action.value}" for action, count in result.networks.items())
        echo(f"networks with tags that set options: {', '.join(counts)}")
    if result.refused:
        echo(f"changed meanwhile, and left to Neutron's plugin: {result.refused}")
