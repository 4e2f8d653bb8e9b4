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
    "ovn-namespaces": (
        "cleanup.ovn:ovn_namespaces",
        "Remove the ovnmeta-… network namespaces of this host, with their haproxies and taps.",
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def cleanup() -> None:
    """Remove what Neutron's DHCP and metadata agents have left. Without --yes, a dry run."""
