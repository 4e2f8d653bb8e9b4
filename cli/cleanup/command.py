"""`ovs-metadata cleanup`: removes what Neutron's own way of serving metadata has left behind."""

import click

from ovs_metadata.cli.cleanup.namespaces import dhcp_namespaces
from ovs_metadata.cli.cleanup.ports import dhcp_ports


@click.group()
def cleanup() -> None:
    """Remove what Neutron's DHCP agents have left behind. Dry runs, unless told --yes."""


cleanup.add_command(dhcp_namespaces)
cleanup.add_command(dhcp_ports)
