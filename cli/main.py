"""The operators' command, `ovs-metadata`.

Exit status: 0 done, 1 failure, 2 usage, 3 the store or Open vSwitch cannot be
reached, 4 there is no such record.
Errors are one line on standard error.
"""

import logging

import click

import ovs_metadata
from ovs_metadata.cli.lazy import Program, load

_COMMANDS = {
    "agent": ("agents:agent", "Agents: one on each hypervisor, and how they are doing."),
    "cleanup": ("cleanup.command:cleanup", "Remove what Neutron's DHCP agents have left behind."),
    "doctor": ("doctor.command:doctor", "Say what keeps this host's instances from Nova, and why."),
    "flows": ("flows:flows", "Show our flows in the switch, by port, with what each one does."),
    "migrate": (
        "migrate.command:migrate",
        "Move from Neutron's metadata agent to this one, host by host, and back.",
    ),
    "port": ("port:port", "Port records: which instance stands behind a Neutron port."),
    "status": ("status:status", "Show how this host is doing: agent, ports, requests, endpoints."),
    "trace": ("trace:trace", "Say where an instance's request would end, and the answer to it."),
}


@click.group(cls=Program, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    metavar="FILE",
    help="Configuration file.  [default: /etc/ovs-metadata/agent.conf, if it exists]",
)
@click.option(
    "--store",
    metavar="URL",
    help="Use this store and not the configured one: directory:/PATH, or "
    "zookeeper://HOST:PORT,HOST:PORT/CHROOT with the configured credentials and TLS.",
)
@click.version_option(ovs_metadata.__version__, prog_name="ovs-metadata")
@click.pass_context
def main(context: click.Context, config: str | None, store: str | None) -> None:
    """Look at and change what the metadata agents know.

    Exit status: 0 done, 1 failure, 2 usage, 3 the store or Open vSwitch cannot be reached, 4 no
    such record.
    """
    # What ends a command is said once, as its error: not by the log of the store or of OVSDB's
    # library as well, which Python would print for want of a handler.
    for name in (ovs_metadata.__name__, "ovsdbapp"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    context.obj = load("common:CliContext")(config, store)
