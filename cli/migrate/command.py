"""`ovs-metadata migrate`: from Neutron's metadata agent to ours, host by host, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ovs_metadata.cli import lazy
from ovs_metadata.cli.common import CliContext
from ovs_metadata.cli.listing import Listing, listing_options
from ovs_metadata.cli.migrate.neutron_ini import DEFAULT_FILES

_Command = TypeVar("_Command", bound=Callable[..., Any])

ini_option = click.option(
    "--metadata-agent-ini",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Configuration file of Neutron's metadata agent. May be given several times, as its "
    "--config-file: a later file wins.  [default: the first that exists of "
    f"{', '.join(map(str, DEFAULT_FILES))}]",
)
url_option = click.option(
    "--nova-url",
    metavar="URL",
    help="Use this endpoint of Nova's, or several separated by commas, and not the file's.",
)
host_option = click.option(
    "--host", metavar="HOST", help="This hypervisor.  [default: the one you are on]"
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the agent.",
)


def _source_options(command: _Command) -> _Command:
    return ini_option(url_option(command))


@click.group()
def migrate() -> None:
    """Move from Neutron's metadata agent to this one, host by host, and back.

    In this order: plan, on a host that has the file of Neutron's metadata agent; apply, once; then
    on each hypervisor plan, to check it, and enable. back undoes enable.
    """


@migrate.command("plan")
@_source_options
@listing_options
@click.pass_obj
def plan(
    cli: CliContext, *, files: tuple[Path, ...], nova_url: str | None, listing: Listing
) -> None:
    """Show what would be configured, and check this host. Changes nothing.

    What is configured already is checked, as enable would, and compared with Neutron's file.
    As long as nothing is, or if a file or endpoint is named, that is checked instead. The formats
    csv, value and yaml have the checks.

    Exit status: 0 this host can be enabled, 1 it cannot, 2 usage, 3 the store cannot be reached.
    """
    lazy.load("migrate.verbs:plan")(cli, files, nova_url, listing)


@migrate.command("apply")
@_source_options
@click.option("--force", is_flag=True, help="Replace values that are configured differently.")
@click.pass_obj
def apply(cli: CliContext, *, files: tuple[Path, ...], nova_url: str | None, force: bool) -> None:
    """Write Neutron's configuration into the template "default". Enables nothing.

    Refuses if that template enables all hosts, for they would be using it at once.
    """
    lazy.load("migrate.verbs:apply")(cli, files, nova_url, force=force)


@migrate.command("enable")
@host_option
@timeout_option
@click.option("--force", is_flag=True, help="Enable it although a check of it has failed.")
@click.pass_obj
def enable(cli: CliContext, *, host: str | None, timeout: float, force: bool) -> None:
    """Have our agent serve a hypervisor's guests, and verify it.

    The host you are on is checked before, as by plan, and by doctor afterwards. Of another one is
    only seen what its agent says of itself.

    Exit status: 0 it serves, 1 it does not or was not enabled, 2 usage, 3 the store cannot be
    reached.
    """
    lazy.load("migrate.verbs:enable")(cli, host, timeout, force=force)


@migrate.command("back")
@host_option
@timeout_option
@click.pass_obj
def back(cli: CliContext, *, host: str | None, timeout: float) -> None:
    """Have Neutron's metadata agent serve a hypervisor's guests again.

    This disables the host, also against its templates. Requests in flight are finished. If no agent
    runs on this host, the command itself removes what the agent left.

    Exit status: 0 nothing of the agent remains, 1 something does or may, 2 usage, 3 the
    store cannot be reached.
    """
    lazy.load("migrate.verbs:back")(cli, host, timeout)
