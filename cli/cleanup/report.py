"""What the subcommands of `ovs-metadata cleanup` say at the end, and while they are at it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import track

from ovs_metadata.cli.cleanup.dhcp_ports import HOST, Document
from ovs_metadata.cli.common import (
    FAILURE,
    echo,
)
from ovs_metadata.cli.listing import Listing

DIFFERENT = 5
"""Exit status of a dry run that found something to do."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CleanedPort:
    """What was, or would be, done about a port; `detail` says why it failed."""

    port: Document
    result: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is not as it should be."""
        return self.result == "failed"


def document(done: Iterable[CleanedPort], *, dry_run: bool) -> dict[str, object]:
    """The ports and what became of them, for scripts."""
    return {
        "dry_run": dry_run,
        "ports": [
            {
                "id": each.port["id"],
                "network_id": each.port["network_id"],
                "host": each.port.get(HOST) or None,
                "fixed_ips": [fixed["ip_address"] for fixed in each.port.get("fixed_ips", ())],
                "mac_address": each.port["mac_address"],
                "result": each.result,
                "detail": each.detail,
            }
            for each in done
        ],
    }


def show(
    done: Sequence[CleanedPort], counted: str, listing: Listing, document: dict[str, object]
) -> None:
    """Print the ports, and for people how many there are of what."""
    if done or not listing.is_report:
        listing.show(
            ["port", "result", "host", "addresses", "network"],
            (
                [
                    each.port["id"],
                    f"{each.result}: {each.detail}" if each.detail else each.result,
                    each.port.get(HOST) or "",
                    [fixed["ip_address"] for fixed in each.port.get("fixed_ips", ())],
                    each.port["network_id"],
                ]
                for each in done
            ),
            document,
        )
    if listing.is_report:
        echo(summary(counted, (each.result for each in done)))


def summary(counted: str, results: Iterable[str]) -> str:
    """How many of each result there are, on one line."""
    numbers = ", ".join(f"{number} {result}" for result, number in Counter(results).items())
    return f"{counted}: {numbers}" if numbers else counted


def finish(done: Iterable[CleanedPort], *, dry_run: bool) -> None:
    """End the command with the exit status that these results ask for."""
    results = {each.result for each in done}
    if "failed" in results:
        raise click.exceptions.Exit(FAILURE)
    if dry_run and results & {"to be removed", "to be restored"}:
        echo("Nothing was changed; --yes does it.", err=True)
        raise click.exceptions.Exit(DIFFERENT)


def progress(what: str, items: Sequence[T]) -> Iterator[T]:
    """The items, with a bar on standard error for as long as it takes, if that is a terminal."""
    console = Console(stderr=True)
    yield from track(items, what, console=console, transient=True, disable=not console.is_terminal)
