"""What the subcommands of `ovs-metadata` share: the settings given to the group, exit statuses."""

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import click

from ovs_metadata.store.errors import RecordNotFound, StoreError, StoreUnavailable
from ovs_metadata.store.interface import Store

FAILURE = 1
UNREACHABLE = 3
NOT_FOUND = 4

WAIT = 10.0
"""Seconds a command waits for the store to answer."""

output_format = click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table for people, or JSON for scripts.",
)


class Failure(click.ClickException):
    """Ends the command with one line on standard error and an exit status."""

    def __init__(self, message: str, exit_code: int = FAILURE) -> None:
        super().__init__(message)
        # Click declares this one for the class, and reads it from the exception.
        self.exit_code = exit_code  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Settings:
    """The group's options; the context's object, for subcommands."""

    config: str | None
    store: str | None

    def store_url(self) -> str:
        """The store to use: the one named by --store, or the configuration's."""
        if self.store is not None:
            return self.store
        # oslo.config takes longer to import than the rest of a command takes to run.
        from ovs_metadata.host.config import ConfigError, load  # noqa: PLC0415

        try:
            return load(self.config).store_url
        except ConfigError as error:
            raise Failure(str(error)) from error

    @contextlib.contextmanager
    def open_store(self) -> Iterator[Store]:
        """The store, open for the time of the block; what it raises ends the command."""
        from ovs_metadata.store import open_store  # noqa: PLC0415

        url = self.store_url()
        try:
            with contextlib.closing(open_store(url, wait=WAIT)) as store:
                yield store
        except StoreError as error:
            raise Failure(str(error), _exit_status(error)) from error


def print_json(document: object) -> None:
    """Print a document for scripts."""
    click.echo(json.dumps(document, indent=2, sort_keys=True))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table for people."""
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # As Text, so that brackets in a value are not taken for markup.
        table.add_row(*(Text(cell) for cell in row))
    # Folded to a terminal's width, but whole lines for whatever reads a pipe.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def _exit_status(error: StoreError) -> int:
    match error:
        case StoreUnavailable():
            return UNREACHABLE
        case RecordNotFound():
            return NOT_FOUND
        case _:
            return FAILURE
