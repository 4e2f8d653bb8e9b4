"""Styled lines for people, drawn by rich; what others wrote is escaped in them.

Few commands print any, and rich takes longer to import than many a command: so it is not in
`cli.common`.
"""

import os
import sys
from collections.abc import Iterable

import click
from rich.console import Console, RenderableType
from rich.segment import Segment, Segments

from ovs_metadata.untrusted import printable


def print_rendered(lines: Iterable[str]) -> None:
    """Print what `rendered` has made, styles included."""
    click.echo("\n".join(lines))


def rendered(*what: RenderableType) -> list[str]:
    """The lines these take: folded to a terminal's width, or COLUMNS; else whole lines.

    Without the blanks that fill up a table's rows. What they contain is escaped, but a newline: a
    text of others has to be `printable` where it becomes a part of them.
    """
    folded = sys.stdout.isatty() or "COLUMNS" in os.environ
    screen = Console(width=None if folded else 10_000)
    with screen.capture() as captured:
        for each in what:
            segments = [
                Segment(_printable_part(part.text), part.style, part.control)
                for part in screen.render(each)
            ]
            screen.print(Segments(segments), end="")
    return [line.rstrip() for line in captured.get().removesuffix("\n").split("\n")]


def _printable_part(text: str) -> str:
    return "\n".join(printable(line, sys.stdout.encoding) for line in text.split("\n"))
