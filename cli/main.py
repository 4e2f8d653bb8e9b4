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
    "agent": ("agents:agent", "Agents: one on each hypervisor, and their state."),
    "cleanup": (
        "cleanup.command:cleanup",
        "Remove what Neutron's DHCP and metadata agents have left.",
    ),
    "doctor": (
        "doctor.command:doctor",
        "Show which hop between this host's instances and Nova is broken, and why.",
    ),
    "flows": ("flows:flows", "Show our flows in the switch, by port, with what each one does."),
    "hash-password": (
        "hash_password:hash_password",
        "Make the line of a user for the file [admin] users_file.",
    ),
    "migrate": (
        "migrate.command:migrate",
        "Move from Neutron's metadata agent to this one, host by host, and back.",
    ),
    "port": ("port:port", "Port records: which instance a Neutron port belongs to."),
    "report": (
        "report.command:report",
        "Write one archive about this host, secrets left out, for who is to look into it.",
    ),
    "status": ("status:status", "Show the state of this host: agent, ports, requests, endpoints."),
    "trace": ("trace:trace", "Show where an instance's request would end, and the answer to it."),
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
    """Show and change what the metadata agents know.

    Exit status: 0 done, 1 failure, 2 usage, 3 the store or Open vSwitch cannot be reached, 4 no
    such record.
    """
    # An error that ends a command is printed once. Without a handler Python would also print what
    # the store and OVSDB's library log.
    for name in (ovs_metadata.__name__, "ovsdbapp"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    context.obj = load("common:CliContext")(config, store)
