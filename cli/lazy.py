"""Groups of commands, each imported when it is used: none waits for another's libraries.

This is the one place where a command's module is imported late.
"""

import contextlib
import os
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

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; where an output is closed, Python has none, and what is printed there is lost."""
        with contextlib.ExitStack() as opened:
            for name in ("stdout", "stderr"):
                if getattr(sys, name) is None:
                    nowhere = opened.enter_context(open(os.devnull, "w"))
                    setattr(sys, name, nowhere)
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand."""
        try:
            return self._invoke(ctx)
        except click.ClickException as error:
            # Click declares it final, and prints it from the exception.
            error.message = printable(error.message, sys.stderr.encoding)  # type: ignore[misc]
            help_instead = isinstance(error, click.exceptions.NoArgsIsHelpError)
            if isinstance(error, click.UsageError) and not help_instead:
                error.ctx = None  # or it would be printed below two lines about help
            raise

    def _invoke(self, ctx: click.Context) -> object:
        """Run the subcommand; what it cannot read or write ends it with one line."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # who reads has enough, which click knows
        except OSError as error:
            if error.filename is None:
                _drop_output()
            where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error


def _drop_output() -> None:
    """Have what could not be printed not be tried again at the end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
