"""Looks once at this host: configuration, OVSDB, and the records of the ports on the bridge.

All commands look here. `look` ends the command if something cannot be read; those who report that
themselves (doctor, migrate) call `read_bridge` and `read_host`. Blocking, changes nothing.
"""

import contextlib
from dataclasses import dataclass, field

import click

from ovs_metadata.cli.common import UNREACHABLE, CliContext, CommandError
from ovs_metadata.cli.port_status import PortStatus, chosen, port_statuses
from ovs_metadata.host.address import METADATA_PORT
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import HostPorts, Records, join_ports
from ovs_metadata.host.option_documents import (
    NO_DOCUMENTS,
    OptionDocuments,
    read_option_documents,
)
from ovs_metadata.host.option_policy import effective_policy
from ovs_metadata.host.ovsdb import Bridge, Ovsdb, OvsdbUnreachable
from ovs_metadata.host.records import read_records_here
from ovs_metadata.host.trunks import with_instances, with_sub_ports
from ovs_metadata.metadata_options import DEFAULT_POLICY, OptionPolicy
from ovs_metadata.store.configuration import read_sources
from ovs_metadata.store.documents import MalformedDocument
from ovs_metadata.store.store import Store


@dataclass(frozen=True, slots=True)
class Host:
    """What was seen.

    documents: the metadata options of networks and projects, without those that cannot be used.
    records: of the ports on the bridge, sub-ports with their instances. stored: as their source has
    them.
    """

    config: Config
    bridge: Bridge
    host_ports: HostPorts
    port_statuses: list[PortStatus]
    records: Records = field(default_factory=dict)
    stored: Records = field(default_factory=dict)
    documents: OptionDocuments = NO_DOCUMENTS

    @property
    def metadata_ofport(self) -> int | None:
        """The ofport of the metadata port; None while it is not in use."""
        return self.bridge.metadata_ofport

    @property
    def why_no_metadata_port(self) -> str:
        """Why the metadata port has no ofport one could use, in words for an operator."""
        port = self.bridge.metadata_port
        if port is None:
            return f"there is no port {METADATA_PORT!r} on the bridge: is the agent running?"
        if not port.ours:
            return f"the port {METADATA_PORT!r} on the bridge was not created by the agent"
        if port.ofport is None:
            return f"port {METADATA_PORT!r} has no ofport: is ovs-vswitchd running?"
        return f"port {METADATA_PORT!r} is not yet set up as it should be: is the agent running?"

    def chosen(self, selector: str) -> list[PortStatus]:
        """The ports that a selector names.

        Raises:
            BadParameter: there are none.
        """
        found = chosen(self.port_statuses, selector)
        if not found:
            raise click.BadParameter(
                f"bridge {self.bridge.name} has no port with {selector!r} as its port UUID, "
                "instance UUID, interface name or fixed IP.",
                param_hint="PORT",
            )
        return found

    def unasked(self, error: OSError) -> str:
        """What to say when the bridge cannot be asked for its flows."""
        socket = self.config.management_socket
        return f"bridge {self.bridge.name} cannot be asked at {socket}: {error}"

    def interface_name(self, ofport: int) -> str | None:
        """The name of the interface with this ofport."""
        if ofport == self.metadata_ofport:
            return METADATA_PORT
        names = (each.name for each in self.bridge.interfaces.values() if each.ofport == ofport)
        return next(names, None)


def look(cli: CliContext) -> Host:
    """Look at this host; what cannot be reached or is not there ends the command."""
    config = cli.load_config()
    bridge = bridge_of(config)
    with cli.open_store() as store:
        return read_host(config, bridge, store)


def bridge_of(config: Config) -> Bridge:
    """The bridge; if it cannot be reached or is not there, that ends the command."""
    try:
        bridge = read_bridge(config)
    except OvsdbUnreachable as error:
        raise CommandError(str(error), UNREACHABLE) from error
    if bridge is None:
        raise CommandError(no_bridge(config))
    return bridge


def read_bridge(config: Config) -> Bridge | None:
    """Read the bridge in OVSDB, None if there is none of that name; raises OvsdbUnreachable."""
    with contextlib.closing(
        Ovsdb(config.ovsdb_connection, config.bridge, lambda _bridge: None)
    ) as ovsdb:
        return ovsdb.bridge


def no_bridge(config: Config) -> str:
    """Say that the bridge does not exist."""
    return f"there is no bridge {config.bridge} in OVSDB at {config.ovsdb_connection}"


def read_host(config: Config, bridge: Bridge, store: Store) -> Host:
    """Read the records of the ports on the bridge; raises StoreError.

    All commands read this host's ports here, so that they report the same status of each.
    """
    interfaces = bridge.interfaces.values()
    port_ids = {each.port_id for each in interfaces if each.port_id is not None}
    read = read_records_here(config, store, port_ids)
    records = with_instances(read, port_ids)
    documents = read_option_documents(store, read.values())
    host_ports = join_ports(interfaces, read, _option_policy(config, store), documents)
    statuses = port_statuses(with_sub_ports(interfaces, read), records, host_ports)
    return Host(config, bridge, host_ports, statuses, records, read, documents)


def _option_policy(config: Config, store: Store) -> OptionPolicy:
    """The deployment's metadata options; the defaults if a document cannot be used."""
    try:
        return effective_policy(read_sources(store, config.host))
    except (MalformedDocument, ValueError):
        return DEFAULT_POLICY
