"""What the subcommands of `ovs-metadata` share: the group's options, exit statuses, output.

All that a command prints goes through here, and what others wrote is escaped in it.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import click

from ovs_metadata.host.config import Config, ConfigError, load
from ovs_metadata.host.store import open_configured_store
from ovs_metadata.store import open_store
from ovs_metadata.store.errors import RecordNotFound, StoreError, StoreUnavailable
from ovs_metadata.store.store import Store
from ovs_metadata.store.url import DirectoryLocation, parse_store_url
from ovs_metadata.untrusted import printable

T = TypeVar("T")

FAILURE = 1
UNREACHABLE = 3
NOT_FOUND = 4

WAIT = 10.0
"""Seconds a command waits for the store to answer."""

SILENCE = 1.0
"""Seconds after which a command shows that it waits."""

output_format = click.option(
    *("-f", "--format", "output"),
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table for people, or JSON for scripts.",
)


def named_port(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """The argument PORT; an empty one, such as a script's unset variable, is not taken for none."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty.", param_hint="PORT")
    return value


class CommandError(click.ClickException):
    """Ends the command with one line on standard error and an exit status."""

    def __init__(self, message: str, exit_code: int = FAILURE) -> None:
        super().__init__(message)
        # Click declares this one for the class, and reads it from the exception.
        self.exit_code = exit_code  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class CliContext:
    """The group's options; the context's object, for subcommands."""

    config: str | None
    store: str | None

    def store_url(self) -> str:
        """The store to use: the one named by --store, or the configuration's."""
        if self.store is not None:
            return self.store
        return self.load_config().store_url

    def load_config(self) -> Config:
        """The configuration file; an error in it ends the command."""
        try:
            return load(self.config)
        except ConfigError as error:
            raise CommandError(str(error)) from error

    @contextlib.contextmanager
    def open_store(self) -> Iterator[Store]:
        """The store, open for the time of the block; what it raises ends the command."""
        try:
            with contextlib.closing(self._open_store()) as store:
                yield store
        except StoreError as error:
            raise CommandError(str(error), _exit_status(error)) from error

    def _open_store(self) -> Store:
        if self.store is not None and isinstance(parse_store_url(self.store), DirectoryLocation):
            # Neither credentials nor TLS count for it: no configuration need be readable.

            return open_store(self.store)
        config = self.load_config()
        url = self.store or config.store_url
        with waiting(f"waiting up to {WAIT:g} s for the store at {url}"):
            return open_configured_store(config, url=self.store, wait=WAIT)


@contextlib.contextmanager
def waiting(message: str) -> Iterator[None]:
    """Print a message on standard error if the block takes longer than `SILENCE`."""
    timer = threading.Timer(SILENCE, echo, [message], {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def only_one(found: Sequence[T], selector: str, title: Callable[[T], str]) -> T:
    """What a selector chose; several things are an error of usage, which names them."""
    if len(found) > 1:
        titles = "; ".join(map(title, found))
        raise click.BadParameter(
            f"{selector!r} may be any of: {titles}. Name one of them.", param_hint="PORT"
        )
    return found[0]


def echo(*lines: str, err: bool = False, state: str = "", color: str = "") -> None:
    """Print lines, an empty one without any; each stays one line, with any content.

    Args:
        lines: what is printed.
        err: print on standard error.
        state: a word that follows the last line in that color.
        color: a name of `click.style`.
    """
    encoding = (sys.stderr if err else sys.stdout).encoding
    text = "\n".join(printable(line, encoding) for line in lines)
    colors = False if os.environ.get("NO_COLOR") else None  # None: on a terminal
    click.echo(text + click.style(state, fg=color) if state else text, err=err, color=colors)


def echo_text(text: str) -> None:
    """Print a text of several lines, of which nothing that others wrote has a newline."""
    if text:
        echo(*text.removesuffix("\n").split("\n"))


def print_json(document: object, *, indented: bool = True) -> None:
    """Print a document for scripts; its strings are ASCII with JSON's escapes."""
    click.echo(json.dumps(document, indent=2 if indented else None, sort_keys=True))


def printable_lines(cell: str | Sequence[str]) -> list[str]:
    """The lines of a cell, with what the output cannot show escaped."""
    lines = [cell] if isinstance(cell, str) else cell
    return "\n".join(printable(line, sys.stdout.encoding) for line in lines).split("\n")


def _exit_status(error: StoreError) -> int:
    match error:
        case StoreUnavailable():
            return UNREACHABLE
        case RecordNotFound():
            return NOT_FOUND
        case _:
            return FAILURE
