"""`ovs-metadata cleanup`: removes what Neutron's own way of serving metadata has left behind."""

import click

from ovs_metadata.cli.lazy import LazyGroup

_COMMANDS = {
    "dhcp-namespaces": (
        "cleanup.namespaces:dhcp_namespaces",
        "Remove the stale qdhcp-… network namespaces of this host.",
    ),
    "dhcp-ports": (
        "cleanup.ports:dhcp_ports",
        "Remove Neutron's DHCP ports (network:dhcp), all of them or those chosen.",
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def cleanup() -> None:
    """Remove what Neutron's DHCP agents have left behind. Without --yes, a dry run."""
