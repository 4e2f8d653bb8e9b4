"""What the subcommands of `ovs-metadata` share: the settings given to the group, exit statuses."""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ovs_metadata.store.errors import (
    MalformedRecord,
    RecordNotFound,
    StoreError,
    StoreUnavailable,
)
from ovs_metadata.store.interface import PortState, Store
from ovs_metadata.store.url import DirectoryLocation, parse_store_url

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ovs_metadata.host.config import Config

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
        return self.load_config().store_url

    def load_config(self) -> "Config":
        """The configuration file; what is wrong with it ends the command."""
        # oslo.config takes longer to import than the rest of a command takes to run.
        from ovs_metadata.host.config import ConfigError, load  # noqa: PLC0415

        try:
            return load(self.config)
        except ConfigError as error:
            raise Failure(str(error)) from error

    @contextlib.contextmanager
    def open_store(self) -> Iterator[Store]:
        """The store, open for the time of the block; what it raises ends the command."""
        try:
            with contextlib.closing(self._open_store()) as store:
                yield store
        except StoreError as error:
            raise Failure(str(error), _exit_status(error)) from error

    def _open_store(self) -> Store:
        if self.store is not None and isinstance(parse_store_url(self.store), DirectoryLocation):
            # Neither credentials nor TLS count for it: no configuration need be readable.
            from ovs_metadata.store import open_store  # noqa: PLC0415

            return open_store(self.store)
        config = self.load_config()
        from ovs_metadata.host.store import open_configured_store  # noqa: PLC0415

        return open_configured_store(config, url=self.store, wait=WAIT)


def port_state(store: Store, port_id: str) -> PortState:
    """What the store has of a port."""
    try:
        return store.get(port_id)
    except MalformedRecord as malformed:
        return malformed
    except RecordNotFound:
        return None


def print_json(document: object) -> None:
    """Print a document for scripts."""
    click.echo(json.dumps(document, indent=2, sort_keys=True))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table for people."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # As Text, so that brackets in a value are not taken for markup.
        table.add_row(*(Text(cell) for cell in row))
    click.echo("\n".join(rendered(table)))


def rendered(*what: "RenderableType") -> list[str]:
    """The lines these take: folded to a terminal's width, or COLUMNS; else whole lines.

    Without the blanks that fill up a table's rows.
    """
    from rich.console import Console  # noqa: PLC0415

    folded = sys.stdout.isatty() or "COLUMNS" in os.environ
    screen = Console(width=None if folded else 10_000)
    with screen.capture() as captured:
        for each in what:
            screen.print(each)
    return [line.rstrip() for line in captured.get().splitlines()]


def _exit_status(error: StoreError) -> int:
    match error:
        case StoreUnavailable():
            return UNREACHABLE
        case RecordNotFound():
            return NOT_FOUND
        case _:
            return FAILURE
