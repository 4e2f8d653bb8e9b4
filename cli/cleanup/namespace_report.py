"""What the commands that clean up network namespaces report, and their common option."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ovs_metadata.agent.network.namespaces import NAMESPACES
from ovs_metadata.cli.cleanup.namespace_contents import Process
from ovs_metadata.cli.cleanup.report import DIFFERENT, summary
from ovs_metadata.cli.common import FAILURE, echo
from ovs_metadata.cli.listing import Listing

directory_option = click.option(
    "--directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=NAMESPACES,
    show_default=True,
    help="Where the names of network namespaces are.",
)


@dataclass(frozen=True, slots=True)
class CleanedNamespace:
    """What was, or would be, done about a namespace, and why."""

    name: str
    result: str
    detail: str = ""


def warn_of(opaque: Collection[Process]) -> None:
    """Warn of processes whose namespaces are not shown."""
    if opaque:
        echo(
            "Warning: not allowed to see where these run, so only their sockets are seen: "
            f"{', '.join(map(str, opaque))}",
            err=True,
        )


def finish(
    done: Sequence[CleanedNamespace], counted: str, listing: Listing, *, dry_run: bool
) -> None:
    """Print the results, and end the command with the exit status that they ask for."""
    if done or not listing.is_report:
        listed = [
            {"name": each.name, "result": each.result, "detail": each.detail} for each in done
        ]
        listing.show(
            ["namespace", "result", "why"],
            ([each.name, each.result, each.detail] for each in done),
            {"dry_run": dry_run, "namespaces": listed},
        )
    if listing.is_report:
        echo(summary(f"{len(done)} {counted}", (each.result for each in done)))
    results = {each.result for each in done}
    if "failed" in results:
        raise click.exceptions.Exit(FAILURE)
    if dry_run and "stale" in results:
        echo("Nothing was changed; --yes does it.", err=True)
        raise click.exceptions.Exit(DIFFERENT)
