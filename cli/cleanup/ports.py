"""`ovs-metadata cleanup dhcp-ports`: removes Neutron's DHCP ports, or brings them back."""

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovs_metadata.cli.cleanup.dhcp_ports import (
    HOST,
    DhcpAgent,
    Document,
    RouteLoss,
    is_there,
    recreating,
    restoration,
    route_losses,
    select,
    with_dhcp,
)
from ovs_metadata.cli.cleanup.report import CleanedPort, document, finish, progress, show
from ovs_metadata.cli.cleanup.restore import (
    RestoreFileError,
    read_restore_file,
    write_restore_file,
)
from ovs_metadata.cli.common import (
    NOT_FOUND,
    CommandError,
    echo,
)
from ovs_metadata.cli.listing import Listing, listing_options
from ovs_metadata.cli.neutron_client import asking_neutron, neutron_options, with_openstacksdk
from ovs_metadata.publisher.errors import NeutronRefused, NeutronUnavailable
from ovs_metadata.utc import utc

if TYPE_CHECKING:
    from ovs_metadata.cli.cleanup.neutron import DhcpNeutron


@dataclass(frozen=True, slots=True)
class Removal:
    """The ports chosen, and what speaks against their removal."""

    ports: list[Document]
    losses: list[RouteLoss]
    dhcp_subnets: list[str]
    recreating: dict[DhcpAgent, list[str]]


@click.command("dhcp-ports")
@click.option(
    "--network",
    "networks",
    metavar="NETWORK",
    multiple=True,
    help="Only on this network, by name or UUID. May be repeated.  [default: all networks]",
)
@click.option(
    "--agent",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="Only those of the DHCP agent on this host, be there still such an agent or not. May be "
    "repeated.  [default: all agents]",
)
@click.option("--yes", is_flag=True, help="Do it. Without this the command changes nothing.")
@click.option(
    "--force",
    is_flag=True,
    help="Remove them even while a DHCP agent is alive that will create them again.",
)
@click.option(
    "--restore-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to write, before anything is removed, what it takes to bring it back.  "
    "[default: dhcp-ports-TIME.json, here]",
)
@click.option(
    "--restore",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Create the missing ports of a restore file again instead.",
)
@neutron_options
@listing_options
def dhcp_ports(
    *,
    networks: tuple[str, ...],
    hosts: tuple[str, ...],
    yes: bool,
    force: bool,
    restore_file: Path | None,
    restore: Path | None,
    os_cloud: str | None,
    os_endpoint: str | None,
    listing: Listing,
) -> None:
    """Remove Neutron's DHCP ports (network:dhcp), all of them or those chosen.

    With them their guests lose Neutron's DHCP server, and maybe their route to 169.254.169.254:
    a dry run warns of that. Refuses while a DHCP agent is alive that would create a port again. The
    credentials must be an administrator's.

    Exit status: 0 done, or nothing to do; 1 failure or refusal; 2 usage; 3 Neutron cannot be used;
    4 there is no such network; 5 a dry run that found something to do.
    """
    if restore and (networks or hosts or force or restore_file):
        raise click.UsageError("--restore goes with --yes, --format and --os-… only.")

    def connect() -> "DhcpNeutron":
        neutron: DhcpNeutron = with_openstacksdk("ovs_metadata.cli.cleanup.neutron:DhcpNeutron")(
            os_cloud, os_endpoint
        )
        return neutron

    with asking_neutron(os_cloud, os_endpoint):
        try:
            if restore:
                _restore(restore, connect, listing, yes=yes)
                return
            neutron = connect()
            removal = _removal(neutron, networks, hosts)
            _remove(neutron, removal, restore_file, listing, yes=yes, force=force)
        except RestoreFileError as error:
            raise CommandError(str(error)) from error


def _removal(neutron: "DhcpNeutron", networks: Sequence[str], hosts: Sequence[str]) -> Removal:
    ids = {_network_id(neutron, network) for network in networks}
    existing = neutron.ports()
    if any(HOST not in port for port in existing):
        # Neither are others shown agents: it would look as if there were none.
        raise CommandError("Neutron does not show where ports are bound: be an administrator")
    ports = select(existing, ids, hosts)
    around = neutron.surroundings()
    return Removal(
        ports,
        route_losses(ports, around),
        with_dhcp(ports, around),
        recreating(around.agents, ports),
    )


def _network_id(neutron: "DhcpNeutron", network: str) -> str:
    found = neutron.network_id(network)
    if found is None:
        raise CommandError(f"there is no network {network}", NOT_FOUND)
    return found


def _remove(
    neutron: "DhcpNeutron",
    removal: Removal,
    restore_file: Path | None,
    listing: Listing,
    *,
    yes: bool,
    force: bool,
) -> None:
    ports = removal.ports
    _warn(removal)
    refused = bool(removal.recreating) and not force
    written: Path | None = None
    outage: NeutronUnavailable | None = None
    if not yes or refused:
        done = [CleanedPort(port, "to be removed") for port in ports]
    else:
        if ports:
            now = utc(time.time())
            written = restore_file or Path(f"dhcp-ports-{now.replace(':', '')}.json")
            write_restore_file(written, ports, now)
            echo(f"restore file: {written}", err=True)
        delete = functools.partial(_delete, neutron)
        done, outage = _each(progress("Removing DHCP ports", ports), delete)
        if outage is None:
            done, outage = _looked_again(neutron, done)
    documents = document(done, dry_run=not yes) | _objections(removal, written, refused)
    show(done, f"{len(ports)} DHCP ports", listing, documents)
    if refused and yes:
        raise CommandError(
            "nothing was removed, since DHCP agents are alive that would create ports again: stop "
            "or disable them, or take their networks away; or give --force"
        )
    if outage:
        raise outage
    finish(done, dry_run=not yes)


def _delete(neutron: "DhcpNeutron", port: Document) -> CleanedPort:
    try:
        return CleanedPort(port, "removed" if neutron.delete(port["id"]) else "was gone")
    except NeutronRefused as refusal:
        return CleanedPort(port, "failed", str(refusal))


def _each(
    ports: Iterable[Document], do: Callable[[Document], CleanedPort]
) -> tuple[list[CleanedPort], NeutronUnavailable | None]:
    """Do it to one port after the other, until Neutron cannot be used any more: then, why not."""
    done: list[CleanedPort] = []
    outage: NeutronUnavailable | None = None
    for port in ports:
        if outage is not None:
            done.append(CleanedPort(port, "not tried"))
            continue
        try:
            done.append(do(port))
        except NeutronUnavailable as error:
            outage = error
            done.append(CleanedPort(port, "failed", str(error)))
    return done, outage


def _looked_again(
    neutron: "DhcpNeutron", done: list[CleanedPort]
) -> tuple[list[CleanedPort], NeutronUnavailable | None]:
    """The outcome, after a check whether ports were already created again."""
    try:
        existing = neutron.ports() if done else []
    except NeutronUnavailable as error:
        return done, error
    looked = [
        each
        if each.failed or not is_there(each.port, existing)
        else CleanedPort(
            each.port, "failed", "removed, and created again at once: by a DHCP agent?"
        )
        for each in done
    ]
    return looked, None


def _restore(
    path: Path, connect: "Callable[[], DhcpNeutron]", listing: Listing, *, yes: bool
) -> None:
    ports = read_restore_file(path)
    neutron = connect()
    existing = neutron.ports()
    there = [port for port in ports if is_there(port, existing)]
    missing = [port for port in ports if port not in there]
    done = [CleanedPort(port, "is there") for port in there]
    outage: NeutronUnavailable | None = None
    if yes:
        create = functools.partial(_create, neutron)
        made, outage = _each(progress("Restoring DHCP ports", missing), create)
        done += made
    else:
        done += [CleanedPort(port, "to be restored") for port in missing]
    documents = document(done, dry_run=not yes)
    show(done, f"{len(ports)} DHCP ports in {path}", listing, documents)
    if outage:
        raise outage
    finish(done, dry_run=not yes)


def _create(neutron: "DhcpNeutron", port: Document) -> CleanedPort:
    try:
        return CleanedPort(port, "restored", f"as {neutron.create(restoration(port))}")
    except NeutronRefused as refusal:
        return CleanedPort(port, "failed", str(refusal))


def _warn(removal: Removal) -> None:
    for agent, networks in removal.recreating.items():
        echo(
            f"Warning: the DHCP agent on {agent.host} is alive, and would create ports again on "
            f"{len(networks)} networks: {', '.join(networks)}",
            err=True,
        )
    for loss in removal.losses:
        echo(f"Warning: {loss.message}", err=True)
    if removal.dhcp_subnets:
        echo(
            f"Warning: {len(removal.dhcp_subnets)} subnets of these ports have DHCP enabled: "
            "without the ports, Neutron's DHCP agents serve no addresses there",
            err=True,
        )


def _objections(removal: Removal, restore_file: Path | None, refused: bool) -> dict[str, object]:
    return {
        "refused": refused,
        "restore_file": str(restore_file) if restore_file else None,
        "agents_that_recreate": [
            {"id": agent.agent_id, "host": agent.host, "networks": networks}
            for agent, networks in removal.recreating.items()
        ],
        "route_losses": [
            {
                "kind": loss.kind.value,
                "network_id": loss.network_id,
                "subnet_id": loss.subnet_id,
                "cidr": loss.cidr,
                "gateway": loss.gateway,
                "message": loss.message,
            }
            for loss in removal.losses
        ],
        "subnets_with_dhcp": removal.dhcp_subnets,
    }
