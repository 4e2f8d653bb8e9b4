"""`ovs-metadata doctor`: which hop between an instance and Nova is broken, and what to do."""

import os

import click

from ovs_metadata.cli import lazy
from ovs_metadata.cli.common import UNREACHABLE, CliContext, CommandError, named_port
from ovs_metadata.cli.listing import Listing, listing_options


@click.command()
@click.argument("port", required=False, callback=named_port)
@click.option(
    "--request/--no-request",
    default=True,
    show_default=True,
    help="Send one request into the switch as if the instance had; the instance sees nothing of "
    "it.",
)
@click.option(
    "--hosts",
    is_flag=False,
    flag_value="*",
    metavar="[PATTERN]",
    help="Show which hosts of the deployment do not serve, and why, as their agents announce it; "
    "all hosts, or those whose names match, such as 'compute-1*'. From any machine.",
)
@listing_options
@click.pass_context
def doctor(
    context: click.Context, port: str | None, hosts: str | None, listing: Listing, *, request: bool
) -> None:
    """Show which hop between this host's instances and Nova is broken, why, and what to do.

    PORT is a port UUID, an instance UUID, an interface name or a fixed IP; without it, all ports of
    this host are looked at. Needs root. Changes nothing.

    Exit status: 0 nothing is wrong, 1 there are warnings, 2 something is broken, 3 it cannot be
    found out.

    The other formats, and --column, print the findings, a row each. --format json prints an
    object: "host", "subject" (PORT), "verdict" (healthy, warnings or
    broken), "hops" and "findings". Each hop has "hop", "state" (right, warning, broken or unknown),
    "seen", "skipped", why it is unknown, and "besides", lines that are printed in any case. Each
    finding has "name", "hop", "severity" (note,
    warning or error), "subject", "what" is wrong, "why" (the evidence), "remedy", and "commands",
    what the remedy runs, each as one line for a shell of root on this host. With --hosts it is an
    object: "verdict", "counts" of hosts by verdict, and "hosts", the worst first, each with "host",
    "verdict" (broken, warnings, disabled or healthy), "ports_served" and "findings".
    """
    cli: CliContext = context.obj
    if hosts is not None:
        if port:
            raise click.UsageError("PORT does not go with --hosts.")
        context.exit(lazy.load("doctor.printed:show_hosts")(cli, hosts, listing))
    if os.geteuid() != 0:
        raise CommandError(
            "must be run as root: it looks into Open vSwitch and network namespaces", UNREACHABLE
        )
    context.exit(lazy.load("doctor.printed:show_host")(cli, port or "", listing, request=request))
