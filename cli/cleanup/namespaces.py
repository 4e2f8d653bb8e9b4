"""`ovs-metadata cleanup dhcp-namespaces`: the stale namespaces of a DHCP agent on this host."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import click

from ovs_metadata.cli.cleanup.dhcp_namespaces import (
    contents,
    find,
    opaque_processes,
    remove,
    why_in_use,
)
from ovs_metadata.cli.cleanup.report import DIFFERENT, summary
from ovs_metadata.cli.common import (
    CliContext,
    CommandError,
    echo,
    output_format,
    print_json,
    print_table,
)
from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb import Ovsdb, OvsdbUnreachable


@dataclass(frozen=True, slots=True)
class CleanedNamespace:
    """What was, or would be, done about a namespace, and why."""

    name: str
    result: str
    detail: str = ""


@click.command("dhcp-namespaces")
@click.option("--yes", is_flag=True, help="Do it. Without this the command changes nothing.")
@click.option(
    "--directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the names of network namespaces are.  [default: /run/netns]",
)
@output_format
@click.pass_obj
def dhcp_namespaces(cli: CliContext, *, yes: bool, directory: Path | None, output: str) -> None:
    """Remove the stale qdhcp-… network namespaces of this host.

    One in which a process runs, a socket is open, or a network device is plugged into the bridge
    or connected, is in use, and is never removed.

    Exit status: 0 done, or nothing to do; 1 failure; 2 usage; 5 a dry run that found something to
    do.
    """
    if os.geteuid() != 0:
        raise CommandError("must be run as root, to see what runs in a namespace")
    config = cli.load_config()
    try:
        paths = find(directory) if directory else find()
        plugged = _plugged(config) if paths else None
        opaque = opaque_processes() if paths else []
        done = [_dealt_with(path, config.bridge, plugged, yes=yes) for path in paths]
    except OSError as error:
        raise CommandError(str(error)) from error
    if opaque:
        echo(
            "Warning: not allowed to see where these run, so only their sockets are seen: "
            f"{', '.join(str(process) for process in opaque)}",
            err=True,
        )
    if output == "json":
        print_json(
            {
                "dry_run": not yes,
                "namespaces": [
                    {"name": each.name, "result": each.result, "detail": each.detail}
                    for each in done
                ],
            }
        )
    else:
        _show(done)
    results = {each.result for each in done}
    if "failed" in results:
        raise click.exceptions.Exit(1)
    if not yes and "stale" in results:
        echo("Nothing was changed; --yes does it.", err=True)
        raise click.exceptions.Exit(DIFFERENT)


def _plugged(config: Config) -> set[str] | None:
    """The interfaces on the bridge; None when that is unknown."""
    try:
        ovsdb = Ovsdb(config.ovsdb_connection, config.bridge, lambda _bridge: None)
    except OvsdbUnreachable as error:
        echo(f"Warning: {error}: namespaces with a network device count as used", err=True)
        return None
    with contextlib.closing(ovsdb):
        bridge = ovsdb.bridge
    return {interface.name for interface in bridge.interfaces} if bridge else set()


def _dealt_with(
    path: Path, bridge: str, plugged: set[str] | None, *, yes: bool
) -> CleanedNamespace:
    """Look, and remove it at once if it is stale."""
    try:
        reasons = why_in_use(contents(path), bridge, plugged)
        if reasons:
            return CleanedNamespace(path.name, "in use", "; ".join(reasons))
        if not yes:
            return CleanedNamespace(path.name, "stale")
        remove(path)
    except OSError as error:
        # A DHCP agent, or its cleanup, removes them as well.
        if not path.exists():
            return CleanedNamespace(path.name, "was gone")
        return CleanedNamespace(path.name, "failed", str(error))
    return CleanedNamespace(path.name, "removed")


def _show(done: list[CleanedNamespace]) -> None:
    if done:
        print_table(
            ["namespace", "result", "why"], ([each.name, each.result, each.detail] for each in done)
        )
    echo(summary(f"{len(done)} namespaces of DHCP agents", (each.result for each in done)))
