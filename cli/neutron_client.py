"""What the commands share that ask Neutron's API: which cloud it is, and how asking it may fail."""

import contextlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from ovs_metadata.cli.common import UNREACHABLE, CommandError
from ovs_metadata.publisher.errors import NeutronUnavailable

Command = TypeVar("Command", bound=Callable[..., Any])

_cloud = click.option(
    "--os-cloud",
    metavar="NAME",
    help="Cloud of clouds.yaml.  [default: OS_CLOUD, or what the other OS_* variables say]",
)
_endpoint = click.option(
    "--os-endpoint",
    metavar="URL",
    help="Neutron's URL, to be used without authentication, for labs.",
)


def neutron_options(command: Command) -> Command:
    """Give a command the options `os_cloud` and `os_endpoint`."""
    return _cloud(_endpoint(command))


def with_openstacksdk(where: str) -> Any:
    """What is at a place, as `module:attribute`, in a module that needs openstacksdk.

    It takes longer to import than most commands take to run. The extra [agent] has it: without it
    the command ends.
    """
    try:
        return pkgutil.resolve_name(where)
    except ModuleNotFoundError as error:
        raise CommandError(
            f"{error.name} is not installed: install the wheel with its extra [agent]"
        ) from error


@contextlib.contextmanager
def asking_neutron(os_cloud: str | None, os_endpoint: str | None) -> Iterator[None]:
    """End the command if these options contradict each other, or Neutron cannot be asked."""
    if os_cloud and os_endpoint:
        raise click.UsageError("--os-cloud does not go with --os-endpoint.")
    try:
        yield
    except NeutronUnavailable as error:
        raise CommandError(str(error), UNREACHABLE) from error
