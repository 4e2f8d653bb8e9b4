"""The operators' command, `ovs-metadata`.

Exit status: 0 done, 1 failure, 2 usage, 3 the store or Open vSwitch cannot be
reached, 4 there is no such record.
Errors are one line on standard error.
"""

import logging

import click

import ovs_metadata
from ovs_metadata.cli.agents import agent
from ovs_metadata.cli.cleanup.command import cleanup
from ovs_metadata.cli.common import Program, Settings
from ovs_metadata.cli.doctor.command import doctor
from ovs_metadata.cli.flows import flows
from ovs_metadata.cli.migrate.command import migrate
from ovs_metadata.cli.port import port
from ovs_metadata.cli.status import status
from ovs_metadata.cli.trace import trace


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
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
    context.obj = Settings(config, store)


main.add_command(agent)
main.add_command(cleanup)
main.add_command(doctor)
main.add_command(flows)
main.add_command(migrate)
main.add_command(port)
main.add_command(status)
main.add_command(trace)
