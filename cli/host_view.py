"""Looks once at this host: configuration, OVSDB, and the records of the ports on the bridge."""

import contextlib
from dataclasses import dataclass

import click

from ovs_metadata.cli.common import UNREACHABLE, CliContext, CommandError, port_state
from ovs_metadata.cli.port_status import PortStatus, chosen, port_statuses
from ovs_metadata.host.address import METADATA_PORT
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import HostPorts, Records, join_ports, with_instances
from ovs_metadata.host.ovsdb import Bridge, Ovsdb, OvsdbUnreachable


@dataclass(frozen=True, slots=True)
class Host:
    """What was seen."""

    config: Config
    bridge: Bridge
    host_ports: HostPorts
    port_statuses: list[PortStatus]

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
            return f"the port {METADATA_PORT!r} on the bridge is somebody else's"
        if port.ofport is None:
            return f"port {METADATA_PORT!r} has no ofport: is ovs-vswitchd running?"
        return f"port {METADATA_PORT!r} is not yet set up as it should be: is the agent running?"

    def chosen(self, word: str) -> list[PortStatus]:
        """The ports that a word of the operator's names.

        Raises:
            BadParameter: there are none.
        """
        found = chosen(self.port_statuses, word)
        if not found:
            raise click.BadParameter(
                f"bridge {self.bridge.name} has no port with {word!r} as its port UUID, instance "
                "UUID, interface name or fixed IP.",
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
        names = (each.name for each in self.bridge.interfaces if each.ofport == ofport)
        return next(names, None)


def look(cli: CliContext) -> Host:
    """Look at this host; what cannot be reached or is not there ends the command."""
    config = cli.load_config()
    bridge = _bridge(config)
    port_ids = {interface.port_id for interface in bridge.interfaces}
    with cli.open_store() as store:
        records: Records = {
            port_id: port_state(store, port_id) for port_id in port_ids if port_id is not None
        }
    records = with_instances(records, port_ids)
    host_ports = join_ports(bridge.interfaces, records)
    return Host(config, bridge, host_ports, port_statuses(bridge.interfaces, records, host_ports))


def _bridge(config: Config) -> Bridge:
    try:
        ovsdb = Ovsdb(config.ovsdb_connection, config.bridge, lambda _bridge: None)
    except OvsdbUnreachable as error:
        raise CommandError(str(error), UNREACHABLE) from error
    with contextlib.closing(ovsdb):
        bridge = ovsdb.bridge
    if bridge is None:
        why = f"there is no bridge {config.bridge} in OVSDB at {config.ovsdb_connection}"
        raise CommandError(why)
    return bridge
