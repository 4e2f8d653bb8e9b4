"""Groups of commands, each imported when it is used: none waits for another's libraries.

This is the one place where a command's module is imported late.
"""

import pkgutil
import sys
from collections.abc import Mapping
from typing import Any

import click

from ovs_metadata.untrusted import printable


def load(where: str) -> Any:
    """What is at a place in `cli`, as `module:attribute`; the module is imported."""
    return pkgutil.resolve_name(f"{__package__}.{where}")


class LazyGroup(click.Group):
    """A group that knows of a command where it is and what it is for, and no more.

    Args:
        lazy: where in `cli` each command is, as `module:attribute`, and its line in the help.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, imported."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        command: click.Command = load(self.lazy[cmd_name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summary(name)) for name in self.list_commands(ctx)])

    def summary(self, name: str) -> str:
        """The line that the group's help has of a command."""
        if name in self.lazy:
            return self.lazy[name][1]
        return self.commands[name].get_short_help_str(limit=80)


class Program(LazyGroup):
    """A whole command: what ends it is printed as all it prints."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            # Click declares it final, and prints it from the exception.
            error.message = printable(error.message, sys.stderr.encoding)  # type: ignore[misc]
            help_instead = isinstance(error, click.exceptions.NoArgsIsHelpError)
            if isinstance(error, click.UsageError) and not help_instead:
                error.ctx = None  # or it would be printed below two lines about help
            raise
