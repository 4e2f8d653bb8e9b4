"""`ovs-metadata cleanup dhcp-namespaces`: the stale namespaces of a DHCP agent on this host."""

import contextlib
import os
from pathlib import Path

import click

from ovs_metadata.cli.cleanup.dhcp_namespaces import NAME, why_in_use
from ovs_metadata.cli.cleanup.namespace_contents import contents, find, opaque_processes, remove
from ovs_metadata.cli.cleanup.namespace_report import (
    CleanedNamespace,
    directory_option,
    finish,
    warn_of,
)
from ovs_metadata.cli.common import CliContext, CommandError, echo
from ovs_metadata.cli.listing import Listing, listing_options
from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb import Ovsdb, OvsdbUnreachable


@click.command("dhcp-namespaces")
@click.option("--yes", is_flag=True, help="Do it. Without this the command changes nothing.")
@directory_option
@listing_options
@click.pass_obj
def dhcp_namespaces(cli: CliContext, *, yes: bool, directory: Path, listing: Listing) -> None:
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
        paths = find(NAME, directory)
        plugged = _plugged(config) if paths else None
        opaque = opaque_processes() if paths else []
        done = [_dealt_with(path, config.bridge, plugged, yes=yes) for path in paths]
    except OSError as error:
        raise CommandError(str(error)) from error
    warn_of(opaque)
    finish(done, "namespaces of DHCP agents", listing, dry_run=not yes)


def _plugged(config: Config) -> set[str] | None:
    """The interfaces on the bridge; None when that is unknown."""
    try:
        ovsdb = Ovsdb(config.ovsdb_connection, config.bridge, lambda _bridge: None)
    except OvsdbUnreachable as error:
        echo(f"Warning: {error}: namespaces with a network device count as used", err=True)
        return None
    with contextlib.closing(ovsdb):
        bridge = ovsdb.bridge
    return set(bridge.interfaces) if bridge else set()


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
