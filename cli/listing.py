"""Lists and records in the formats that OpenStack's client has: table, json, yaml, value, csv.

The options are those of `openstack … list` and `show`; lists alone are sorted. A command whose
report for people is no table prints that where neither a format nor columns are chosen. On a
terminal too narrow for a table, the least important columns are left out, and a line names them; no
word, such as a UUID, is broken.
"""

import csv
import functools
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from ovs_metadata.cli.common import echo, echo_text, print_json, printable_lines

Cell = str | Sequence[str]
"""One line, or a sequence of them."""

Row = Sequence[Cell]

GAP = "  "

_Command = TypeVar("_Command", bound=Callable[..., Any])

_FORMATS = ("table", "json", "yaml", "value", "csv")


@dataclass(frozen=True, slots=True)
class Listing:
    """How a list is printed. `max_width`: characters of a line; None as the terminal has."""

    output: str = "table"
    columns: tuple[str, ...] = ()
    sort_columns: tuple[str, ...] = ()
    indented: bool = True
    max_width: int | None = None

    @property
    def is_report(self) -> bool:
        """Whether a command prints its own report for people, if it has one."""
        return self.output == "table" and not self.columns and not self.sort_columns

    def show(self, columns: Sequence[str], rows: Iterable[Row], documents: Any) -> None:
        """Print a list; the columns are in order of importance.

        documents: what JSON has where no columns are chosen.
        """
        table = list(rows)
        for name in reversed(self.sort_columns):
            at = _at(columns, name)
            table.sort(key=lambda row: _sort_key(row[at]))
        if self.output == "json" and not self.columns and not self.sort_columns:
            self._print_json(documents)
            return
        chosen = [_at(columns, name) for name in self.columns] or list(range(len(columns)))
        names = [columns[at] for at in chosen]
        self._print(names, [[row[at] for at in chosen] for row in table])

    def show_one(self, fields: Sequence[tuple[str, Cell]], document: Any) -> None:
        """Print one record, field by field."""
        names = [name for name, _ in fields]
        chosen = [fields[_at(names, name)] for name in self.columns] or list(fields)
        match self.output:
            case "json" if not self.columns:
                self._print_json(document)
            case "json":
                self._print_json(dict(chosen))
            case "yaml":
                echo(*(f"{_yaml_key(name)}: {json.dumps(value)}" for name, value in chosen))
            case "value":
                echo(*(_on_one_line(value) for _, value in chosen))
            case "csv":
                self._print([name for name, _ in chosen], [[value for _, value in chosen]])
            case _:
                self._print(["field", "value"], [[name, value] for name, value in chosen])

    def _print(self, columns: Sequence[str], rows: Sequence[Row]) -> None:
        match self.output:
            case "json":
                self._print_json([dict(zip(columns, row, strict=True)) for row in rows])
            case "yaml":
                echo_text("".join(map(_yaml, (zip(columns, row, strict=True) for row in rows))))
                if not rows:
                    echo("[]")
            case "value":
                for row in rows:
                    echo(" ".join(map(_on_one_line, row)))
            case "csv":
                echo_text(_csv(columns, rows))
            case _:
                lines, left_out = table_lines(columns, rows, self._width())
                echo(*lines)
                if left_out:
                    echo("", f"not shown: {', '.join(left_out)} (choose columns with -c)")

    def _print_json(self, document: Any) -> None:
        print_json(document, indented=self.indented)

    def _width(self) -> int | None:
        if self.max_width is not None:
            return self.max_width or None
        on_screen = sys.stdout.isatty() or "COLUMNS" in os.environ
        return shutil.get_terminal_size().columns if on_screen else None


def listing_options(command: _Command) -> _Command:
    """Add the options of a command that lists; it gets them as `listing`."""
    return record_options(_SORT_COLUMN(command))


def record_options(command: _Command) -> _Command:
    """Add the options of a command that shows one record; it gets them as `listing`."""

    @functools.wraps(command)
    def with_listing(*args: Any, **options: Any) -> Any:
        fit, width = options.pop("fit_width"), options.pop("max_width")
        if fit:
            width = shutil.get_terminal_size().columns
        listing = Listing(
            options.pop("output"),
            options.pop("columns"),
            options.pop("sort_columns", ()),
            not options.pop("noindent"),
            width,
        )
        return command(*args, listing=listing, **options)

    decorated: Any = with_listing
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


_SORT_COLUMN = click.option(
    *("--sort-column", "sort_columns"),
    metavar="COLUMN",
    multiple=True,
    help="Sort by this column; repeat it for several.",
)

_OPTIONS = (
    click.option(
        *("-f", "--format", "output"),
        type=click.Choice(_FORMATS),
        default="table",
        show_default=True,
        help="A table for people, or a format for scripts.",
    ),
    click.option(
        *("-c", "--column", "columns"),
        metavar="COLUMN",
        multiple=True,
        help="Show this column or field; repeat it for several.",
    ),
    click.option("--noindent", is_flag=True, help="Print JSON on one line."),
    click.option(
        "--max-width",
        type=click.IntRange(min=0),
        metavar="N",
        help="Characters of a table's line; 0 for any number.  [default: the terminal's]",
    ),
    click.option("--fit-width", is_flag=True, help="Fit a table to the terminal, also in a pipe."),
)


def table_lines(
    columns: Sequence[str], rows: Sequence[Row], width: int | None
) -> tuple[list[str], list[str]]:
    """The lines of a table that fits, and the columns that are left out for that.

    The first column always stays. If not even the first two fit, each row is a record instead.
    """
    cells = [[printable_lines(cell) for cell in row] for row in rows]
    least = [
        max(
            len(word) for text in (name, *(_joined(row[at]) for row in cells)) for word in _of(text)
        )
        for at, name in enumerate(columns)
    ]
    kept = len(columns)
    while width and kept > 1 and sum(least[:kept]) + len(GAP) * (kept - 1) > width:
        kept -= 1
    if kept == 1 and len(columns) > 1:
        return _records(columns, cells), []
    most = [
        max(len(line) for lines in ([name], *(row[at] for row in cells)) for line in lines or [""])
        for at, name in enumerate(columns[:kept])
    ]
    widths = _widths(least[:kept], most, width)
    lines = _row_lines([[name] for name in columns[:kept]], widths)
    lines.append(GAP.join("-" * each for each in widths))
    for row in cells:
        lines += _row_lines(row[:kept], widths)
    return lines, list(columns[kept:])


def _widths(least: Sequence[int], most: Sequence[int], width: int | None) -> list[int]:
    """Each column as wide as it wants, or as there is room for, the first ones first."""
    if width is None:
        return list(most)
    room = width - len(GAP) * (len(least) - 1) - sum(least)
    widths = []
    for small, large in zip(least, most, strict=True):
        more = max(0, min(large - small, room))
        room -= more
        widths.append(small + more)
    return widths


def _row_lines(row: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    folded = [
        [part for line in cell for part in _folded(line, width)]
        for cell, width in zip(row, widths, strict=True)
    ]
    height = max((len(each) for each in folded), default=1)
    return [
        GAP.join(
            (parts[at] if at < len(parts) else "").ljust(width)
            for parts, width in zip(folded, widths, strict=True)
        ).rstrip()
        for at in range(max(1, height))
    ]


def _folded(line: str, width: int) -> list[str]:
    """The line, broken at blanks alone."""
    lines = [""]
    for word in line.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def _records(columns: Sequence[str], rows: Sequence[Sequence[Sequence[str]]]) -> list[str]:
    lines = []
    for row in rows:
        lines += [f"{name}: {_joined(cell)}" for name, cell in zip(columns, row, strict=True)]
        lines.append("")
    return lines[:-1]


def _joined(lines: Sequence[str]) -> str:
    return " ".join(lines)


def _of(text: str) -> list[str]:
    return text.split() or [""]


def _at(columns: Sequence[str], wanted: str) -> int:
    """The place of a column, whether its name is written with blanks or with underscores."""
    names = [_plain(each) for each in columns]
    if _plain(wanted) not in names:
        raise click.BadParameter(
            f"there is no column {wanted!r}; there are: {', '.join(columns)}.", param_hint="COLUMN"
        )
    return names.index(_plain(wanted))


def _plain(name: str) -> str:
    return name.lower().replace("_", " ")


def _sort_key(cell: Cell) -> tuple[bool, float, str]:
    """Numbers by value, and before texts."""
    text = _on_one_line(cell)
    number = text.isdecimal()
    return not number, float(text) if number else 0.0, text


def _on_one_line(cell: Cell) -> str:
    return cell if isinstance(cell, str) else ", ".join(cell)


def _yaml(pairs: Iterable[tuple[str, Cell]]) -> str:
    """One item of a list in YAML, of which JSON's strings and lists are a part."""
    lines = [f"{_yaml_key(name)}: {json.dumps(value)}" for name, value in pairs]
    return "- " + "\n  ".join(lines) + "\n"


def _yaml_key(name: str) -> str:
    return name if name.replace("_", "").isalnum() else json.dumps(name)


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    # A newline of others would begin a row.
    writer.writerows([[" ".join(_on_one_line(cell).split("\n")) for cell in row] for row in rows])
    return text.getvalue()
