"""`ovs-metadata cleanup ovn-namespaces`: what OVN's metadata agent has left on this host."""

import contextlib
import os
from pathlib import Path

import click

from ovs_metadata.agent.network.netlink import NetlinkError
from ovs_metadata.cli.cleanup.namespace_contents import contents, find, opaque_processes, remove
from ovs_metadata.cli.cleanup.namespace_report import (
    CleanedNamespace,
    directory_option,
    finish,
    warn_of,
)
from ovs_metadata.cli.cleanup.ovn_namespaces import (
    NAME,
    end,
    living_agents,
    tap_of,
    unplug,
    what_goes,
    why_in_use,
)
from ovs_metadata.cli.common import CliContext, CommandError, echo
from ovs_metadata.cli.listing import Listing, listing_options
from ovs_metadata.host.ovsdb import Ovsdb, OvsdbRefused, OvsdbUnreachable


@click.command("ovn-namespaces")
@click.option("--yes", is_flag=True, help="Do it. Without this the command changes nothing.")
@click.option(
    "--force",
    is_flag=True,
    help="Remove them even while an agent is alive that may create them again.",
)
@directory_option
@listing_options
@click.pass_obj
def ovn_namespaces(
    cli: CliContext, *, yes: bool, force: bool, directory: Path, listing: Listing
) -> None:
    """Remove the ovnmeta-… network namespaces of this host, with their haproxies and taps.

    Refuses while neutron-ovn-metadata-agent or neutron-ovn-agent is alive here. A namespace in
    which another process runs or another device is, is in use, and is never removed. The metadata
    ports in Neutron stay: never delete them.

    Exit status: 0 done, or nothing to do; 1 failure or refusal; 2 usage; 5 a dry run that found
    something to do.
    """
    if os.geteuid() != 0:
        raise CommandError("must be run as root, to see what runs in a namespace")
    config = cli.load_config()
    try:
        paths = find(NAME, directory)
        if not paths:
            finish([], "namespaces of OVN's metadata agents", listing, dry_run=not yes)
            return
        _refuse_or_warn(yes=yes and not force)
        warn_of(opaque_processes())
        ovsdb = Ovsdb(config.ovsdb_connection, config.bridge, lambda _bridge: None)
    except (OSError, OvsdbUnreachable) as error:
        raise CommandError(str(error)) from error
    with contextlib.closing(ovsdb):
        done = [_dealt_with(path, ovsdb, config.namespace, yes=yes) for path in paths]
    finish(done, "namespaces of OVN's metadata agents", listing, dry_run=not yes)


def _refuse_or_warn(*, yes: bool) -> None:
    agents = living_agents()
    if not agents:
        return
    names = sorted({agent.name for agent in agents})
    message = (
        f"{', '.join(map(str, agents))} may create them again: stop it first (systemctl disable "
        f"--now {' '.join(names)}; neutron-ovn-agent may stay without the extension metadata: "
        "--force)"
    )
    if yes:
        raise CommandError(f"nothing was removed: {message}")
    echo(f"Warning: {message}", err=True)


def _dealt_with(path: Path, ovsdb: Ovsdb, own: str, *, yes: bool) -> CleanedNamespace:
    """Look, and remove it at once if it is stale."""
    name, bridge = path.name, ovsdb.bridge
    interfaces = tuple(bridge.interfaces.values()) if bridge else ()
    try:
        found = contents(path)
        reasons = why_in_use(name, found, interfaces, own)
        if reasons:
            return CleanedNamespace(name, "in use", "; ".join(reasons))
        goes = what_goes(name, found, interfaces)
        if not yes:
            return CleanedNamespace(name, "stale", goes)
        for process in found.processes:
            end(process, path)
        unplug(ovsdb, tap_of(name))
        remove(path)
    except (OSError, OvsdbRefused, NetlinkError) as error:
        return CleanedNamespace(name, "failed", str(error))
    return CleanedNamespace(name, "removed", goes)
