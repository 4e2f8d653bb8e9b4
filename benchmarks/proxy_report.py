"""The figures of `benchmarks/proxy`: medians of rounds, and how they are shown.

Pure functions on values, but for `show`, which prints.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

BASE = "haproxy"
"""What CPU per request is related to, besides Neutron's."""

NEUTRON = "neutron"


@dataclass(frozen=True)
class Case:
    """What is measured: the kind of upstream, the use of connections, and how many there are."""

    upstream: str
    keep_alive: bool
    connections: int

    @property
    def mode(self) -> str:
        """How connections are used."""
        return "keep-alive" if self.keep_alive else "new connections"


@dataclass(frozen=True)
class Figures:
    """One target in one case: a round's figures, or the medians of all rounds.

    CPU per request in µs, latencies in ms, resident memory in MiB.
    """

    cpu: float
    rate: float
    p50: float
    p99: float
    rss: float
    requests: int
    errors: int
    first_error: str = ""


@dataclass(frozen=True)
class Row:
    """A target's medians in a case, and its CPU per request as a multiple of others'."""

    case: Case
    target: str
    figures: Figures
    to_haproxy: float | None
    to_neutron: float | None

    def to_json(self) -> dict[str, Any]:
        """As one flat object."""
        return {
            **asdict(self.case),
            "target": self.target,
            **asdict(self.figures),
            "cpu_to_haproxy": self.to_haproxy,
            "cpu_to_neutron": self.to_neutron,
        }


def medians(rounds: Sequence[Figures]) -> Figures:
    """Medians of the rounds; of memory the last, and of requests and errors the sum."""
    return Figures(
        cpu=statistics.median(each.cpu for each in rounds),
        rate=statistics.median(each.rate for each in rounds),
        p50=statistics.median(each.p50 for each in rounds),
        p99=statistics.median(each.p99 for each in rounds),
        rss=rounds[-1].rss,
        requests=sum(each.requests for each in rounds),
        errors=sum(each.errors for each in rounds),
        first_error=next((each.first_error for each in rounds if each.errors), ""),
    )


def rows(measured: dict[tuple[Case, str], list[Figures]]) -> list[Row]:
    """A row for each case and target, in the order they were measured."""
    middle = {key: medians(rounds) for key, rounds in measured.items()}

    def ratio(case: Case, figures: Figures, base: str) -> float | None:
        other = middle.get((case, base))
        return figures.cpu / other.cpu if other and other.cpu else None

    return [
        Row(case, target, figures, ratio(case, figures, BASE), ratio(case, figures, NEUTRON))
        for (case, target), figures in middle.items()
    ]


def show(result: Iterable[Row], console: Console, *, markdown: bool) -> None:
    """Print a table for each kind of upstream and use of connections."""
    tables: dict[str, Table] = {}
    last: dict[str, Case] = {}
    for row in result:
        title = f"upstream: {row.case.upstream}; {row.case.mode}"
        if title not in tables:
            tables[title] = _table(box.MARKDOWN if markdown else box.SIMPLE_HEAD)
        elif last[title] != row.case and not markdown:
            tables[title].add_section()
        last[title] = row.case
        figures = row.figures
        tables[title].add_row(
            str(row.case.connections),
            row.target,
            f"{figures.cpu:.0f}",
            _multiple(row.to_haproxy),
            _multiple(row.to_neutron),
            f"{figures.rate:,.0f}",
            f"{figures.p50:.2f}",
            f"{figures.p99:.2f}",
            f"{figures.rss:.0f}",
            str(figures.errors),
        )
    for title, table in tables.items():
        console.print(f"\n{title}\n" if markdown else f"[bold]{title}", highlight=False)
        console.print(table)


def _table(edges: box.Box) -> Table:
    table = Table(box=edges)
    table.add_column("conns", justify="right")
    table.add_column("target")
    for name in (
        *("CPU µs/req", "to haproxy", "to Neutron", "req/s", "p50 ms", "p99 ms", "RSS MiB"),
        "errors",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _multiple(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value >= 0.1 else f"1/{1 / value:.0f}" if value else "0"
