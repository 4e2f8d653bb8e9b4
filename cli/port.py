"""`ovs-metadata port`: reads and writes port records by hand, for labs and tests.

A deployment's records are Neutron's business, and are published by its service plugin.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import click

from ovs_metadata.cli import lazy
from ovs_metadata.cli.admin_client import AgentUnreachable, ask
from ovs_metadata.cli.common import (
    FAILURE,
    UNREACHABLE,
    CliContext,
    CommandError,
    echo,
    named_port,
    only_one,
)
from ovs_metadata.cli.lazy import LazyGroup
from ovs_metadata.cli.listed_port import COLUMNS, LONG, ListedPort, RefusedInterface
from ovs_metadata.cli.listing import Listing, listing_options, record_options
from ovs_metadata.cli.named_records import records_named
from ovs_metadata.cli.port_status import canonical_address, chosen, record_in
from ovs_metadata.host.config import OVN, Config
from ovs_metadata.host.records import read_records, read_records_here
from ovs_metadata.store.interface import MalformedRecord, PortState, RecordNotFound
from ovs_metadata.store.record import MAX_DOCUMENT, PortRecord, is_port_id
from ovs_metadata.store.store import Store


def _port_id(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A port's id in canonical form, of a record that need not exist."""
    if value is not None and not is_port_id(value.lower()):
        raise click.BadParameter(f"{value!r} is not a UUID.")
    return value and value.lower()


@click.group(
    cls=LazyGroup,
    lazy={
        "sync": ("port_sync:sync_ports", "Make the records those of Neutron's compute ports."),
    },
)
def port() -> None:
    """Port records: which instance a Neutron port belongs to."""


@port.command("show")
@click.argument("selector", metavar="PORT", callback=named_port)
@record_options
@click.pass_context
def show_port(context: click.Context, selector: str, listing: Listing) -> None:
    """Show one port: record, interface, addresses, flows, last answer, and what is wrong.

    PORT is a port UUID, an instance UUID, an interface name or a fixed IP. Needs root. Sends and
    changes nothing.

    Exit status: 0 nothing is wrong with it, 1 something is, 2 usage, 3 what it takes to tell does
    not answer, 4 there is no such port.
    """
    if not lazy.load("port_show:show_port")(context.obj, selector, listing):
        context.exit(FAILURE)


@port.command("set")
@click.argument("port_id", metavar="[PORT_ID]", callback=_port_id, required=False)
@click.option("--project", metavar="ID", help="Project (tenant) of the instance.")
@click.option("--instance", metavar="UUID", help="Instance the port belongs to.")
@click.option("--mac", metavar="MAC", help="MAC address of the port.")
@click.option(
    "--fixed-ip",
    "fixed_ips",
    metavar="ADDRESS",
    multiple=True,
    help="Address of the port, the primary one first. May be repeated.",
)
@click.option("--network", metavar="UUID", help="Network of the port.")
@click.option("--device-owner", default="compute:nova", show_default=True, help="Kind of port.")
@click.option(
    "--revision",
    type=click.IntRange(min=0),
    help="Revision number.  [default: one more than that of the stored record, or 1]",
)
@click.option(
    "--json",
    "document",
    type=click.File("rb"),
    help="Read the record, JSON, from a file, or from standard input with -, and take no other "
    "option but --force.",
)
@click.option("--force", is_flag=True, help="Overwrite even a newer record.")
@click.pass_obj
def set_port(
    cli: CliContext,
    *,
    port_id: str | None,
    project: str | None,
    instance: str | None,
    mac: str | None,
    fixed_ips: tuple[str, ...],
    network: str | None,
    device_owner: str,
    revision: int | None,
    document: BinaryIO | None,
    force: bool,
) -> None:
    """Store the record of a port, replacing an older one."""
    refuse_to_write(cli)
    given = {"--project": project, "--instance": instance, "--mac": mac, "--network": network}
    if document is not None:
        _refuse(given | {"--fixed-ip": fixed_ips or None, "--revision": revision})
        try:
            record = PortRecord.from_json(port_id, document.read(MAX_DOCUMENT + 1))
        except MalformedRecord as error:
            raise CommandError(str(error)) from error
        with cli.open_store() as store:
            _put(store, record, force=force)
        return
    _require({"PORT_ID": port_id} | given)
    try:
        record = PortRecord(
            port_id=port_id or "",
            project_id=project or "",
            device_id=instance or "",
            device_owner=device_owner,
            mac_address=mac or "",
            fixed_ips=fixed_ips,
            network_id=network or "",
            revision_number=revision or 0,
        )
    except MalformedRecord as error:
        raise click.UsageError(error.reason) from error
    with cli.open_store() as store:
        if revision is None:
            record = replace(record, revision_number=_next_revision(store, record.port_id))
        _put(store, record, force=force)


@port.command("get")
@click.argument("selector", metavar="PORT", callback=named_port)
@record_options
@click.pass_obj
def get_port(cli: CliContext, selector: str, listing: Listing) -> None:
    """Show the record of a port.

    PORT is a port UUID, an instance UUID, a fixed IP, or the name of an interface of this host.
    """
    with cli.open_store() as store:
        port_id = _named(cli, store, selector)
        state = _states(cli, store, [port_id])[port_id]
        if isinstance(state, MalformedRecord):
            raise state
        record = record_in(state)
        if record is None:
            raise RecordNotFound(port_id)
    document = record.document()
    listing.show_one(
        [
            (name, tuple(map(str, value)) if isinstance(value, tuple) else str(value))
            for name, value in sorted(document.items())
        ],
        document,
    )


@port.command("list")
@click.option("--here", is_flag=True, help="Only ports that are on this host.")
@click.option("--long", "show_all", is_flag=True, help="Also project, MAC, network, revision.")
@listing_options
@click.pass_obj
def list_ports(cli: CliContext, listing: Listing, *, here: bool, show_all: bool) -> None:
    """Show all port records, and what the agent of this host knows of them.

    That is ofport, port address, requests and the last answer of the ports on this host. Ports here
    that have no record are shown, too, and interfaces that are refused. Records that cannot be used
    are shown with the reason. Where records come from OVN's southbound database, only ports on this
    host are shown.
    """
    seen = _ports_here(cli)
    ports_here, refused, silence = seen.ports, seen.refused, seen.silence
    if here and silence:
        raise CommandError(f"which ports are on this host is not known: {silence}", UNREACHABLE)
    with cli.open_store() as store:
        found: dict[str, PortState] = {}
        if _from_ovn(cli):
            config = cli.load_config()
            found = read_records_here(config, store, _plugged(config))
        elif not here:
            found = dict(store.records())
        found |= _states(cli, store, ports_here.keys() - found.keys())
    listed: list[ListedPort | RefusedInterface] = [
        ListedPort(port_id, state, ports_here.get(port_id))
        for port_id, state in sorted(found.items())
    ]
    listed += refused
    listing.show(
        COLUMNS + (LONG if show_all else []),
        (row.cells(show_all) for row in listed),
        [row.document() for row in listed],
    )
    if silence and listing.output == "table":
        echo("", f"the agent did not report its ports: {silence}")
    if seen.problems and listing.output == "table":
        echo("", *seen.problems)


@port.command("delete")
@click.argument("selector", metavar="PORT", callback=named_port)
@click.pass_obj
def delete_port(cli: CliContext, selector: str) -> None:
    """Delete the record of a port; its instance gets no metadata any more.

    PORT is a port UUID, an instance UUID, a fixed IP, or the name of an interface of this host.
    """
    refuse_to_write(cli)
    with cli.open_store() as store:
        port_id = _named(cli, store, selector)
        if not store.delete(port_id):
            raise RecordNotFound(port_id)


def refuse_to_write(cli: CliContext) -> None:
    """End the command where no agent would read what it writes."""
    if _from_ovn(cli):
        raise CommandError(
            "port records come from OVN's southbound database ([store] records = ovn), and Neutron "
            "writes them there: name a store with --store to write to one nevertheless"
        )


def _from_ovn(cli: CliContext) -> bool:
    """Whether the records are OVN's, and not those of a store that is named."""
    return cli.store is None and cli.load_config().records == OVN


def _plugged(config: Config) -> set[str]:
    """The ports on the bridge; if it cannot be read, that ends the command."""
    from ovs_metadata.cli.host_view import bridge_of  # noqa: PLC0415 - loads python-ovs

    interfaces = bridge_of(config).interfaces.values()
    return {each.port_id for each in interfaces if each.port_id is not None}


def _named(cli: CliContext, store: Store, selector: str) -> str:
    """The ID of the one port that a selector names; raises StoreError."""
    port_id = selector.lower()
    if is_port_id(port_id) and _states(cli, store, [port_id])[port_id] is not None:
        return port_id
    if _from_ovn(cli) or not (is_port_id(port_id) or canonical_address(selector)):
        found = _named_here(cli, store, selector)
    else:
        found = [each.port_id for each in records_named(store, selector)]
    if not found:
        raise RecordNotFound(selector)
    return only_one(found, selector, str)


_OTHERWISE = "an instance's or the port's UUID, or a fixed IP, names a port without Open vSwitch"
"""What to do where an interface's name cannot be looked up."""


def _named_here(cli: CliContext, store: Store, selector: str) -> list[str]:
    """The ports on the bridge that a selector names; what cannot be read ends the command."""
    from ovs_metadata.cli.host_view import bridge_of, read_host  # noqa: PLC0415 - loads python-ovs

    config = cli.load_config()
    try:
        bridge = bridge_of(config)
    except CommandError as error:
        if config.records == OVN:
            raise  # it is what all names are looked up by
        raise CommandError(f"{error.message}; {_OTHERWISE}", error.exit_code) from error
    host = read_host(config, bridge, store)
    return [each.port_id for each in chosen(host.port_statuses, selector) if each.port_id]


def _states(cli: CliContext, store: Store, port_ids: Collection[str]) -> dict[str, PortState]:
    """What is known of these ports; raises StoreError."""
    if _from_ovn(cli):
        return read_records(cli.load_config(), store, port_ids)
    return {port_id: store.state(port_id) for port_id in port_ids}


def _require(given: dict[str, str | None]) -> None:
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise click.UsageError(f"Missing {', '.join(missing)} (or --json).")


def _refuse(given: dict[str, object]) -> None:
    superfluous = [name for name, value in given.items() if value is not None]
    if superfluous:
        raise click.UsageError(f"--json does not go with {', '.join(superfluous)}.")


def _next_revision(store: Store, port_id: str) -> int:
    state = store.state(port_id)
    return state.revision_number + 1 if isinstance(state, PortRecord) else 1


def _put(store: Store, record: PortRecord, *, force: bool) -> None:
    if not store.put(record, force=force):
        raise CommandError(
            f"the store holds another record of port {record.port_id} that is of revision "
            f"{record.revision_number} or later: give a higher revision, or --force"
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the agent of this host reports, or why it reports nothing.

    Its ports by ID, the interfaces that it refuses, and why this host is not ready.
    """

    ports: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    refused: Sequence[RefusedInterface] = ()
    silence: str = ""
    problems: Sequence[str] = ()


def _ports_here(cli: CliContext) -> _Seen:
    try:
        answer = ask(cli.load_config().admin_socket, "/ports")
    except (AgentUnreachable, CommandError) as error:
        return _Seen(silence=str(error))
    return _Seen(
        {port["port_id"]: port for port in answer["ports"]},
        [RefusedInterface(each["interface"], each["reason"]) for each in answer["refused"]],
        problems=[f"This host is {answer['state']}: {each}" for each in answer["problems"]],
    )
