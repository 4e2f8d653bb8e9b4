"""The figures of boot storms, and how they are shown. Values only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.boot_storm_client import Storm

from lab.rig.usage import Usage

SHOWN_ERRORS = 5


@dataclass(frozen=True)
class Figures:
    """One storm. Times in seconds, memory in MiB.

    `own_time` is what the upstream needs by itself, for any client; `added` is what the last guest
    waited beyond that. `processes` has CPU time used during the storm, and memory after it;
    `cpu` and `memory` are the sums of the service's own. `machine_cpu` is what all on this machine
    used.
    """

    service: str
    upstream: str
    guests: int
    requests: int
    own_time: float
    last_guest: float
    added: float
    first_guest: float
    p50: float
    p99: float
    slowest: float
    errors: int
    retries: int
    retransmissions: int
    cpu: float
    memory: float
    processes: dict[str, Usage]
    machine_cpu: float
    first_errors: list[str]


NOT_OF_THE_SERVICE = ("ovs-vswitchd", "upstream", "guests")
"""Processes that are shown, and not counted in the sums."""


def figures(
    *,
    service: str,
    upstream: str,
    own_time: float,
    storm: Storm,
    before: Mapping[str, Usage],
    after: Mapping[str, Usage],
    machine_cpu: float,
) -> Figures:
    """The figures of a storm that is over; usage is by process, before and after it."""
    used = {name: Usage(usage.cpu - before[name].cpu, usage.rss) for name, usage in after.items()}
    counted = [usage for name, usage in used.items() if name not in NOT_OF_THE_SERVICE]
    ordered = sorted(storm.requests)
    return Figures(
        service=service,
        upstream=upstream,
        guests=len(storm.done),
        requests=len(ordered),
        own_time=own_time,
        last_guest=max(storm.done),
        added=max(storm.done) - own_time,
        first_guest=min(storm.done),
        p50=_percentile(ordered, 50),
        p99=_percentile(ordered, 99),
        slowest=ordered[-1],
        errors=len(storm.errors),
        retries=storm.retries,
        retransmissions=storm.retransmissions,
        cpu=sum(usage.cpu for usage in counted),
        memory=sum(usage.rss for usage in counted),
        processes=used,
        machine_cpu=machine_cpu,
        first_errors=storm.errors[:SHOWN_ERRORS],
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest rank's."""
    return ordered[-(-percent * len(ordered) // 100) - 1]


def text(measured: Sequence[Figures]) -> str:
    """All figures, for people: a table in Markdown, then what went wrong."""
    titles = [f"{each.service}, {each.upstream}" for each in measured]
    table: list[list[str]] = [
        ["", *titles],
        ["---"] * (len(measured) + 1),
        ["guests / requests", *(f"{each.guests} / {each.requests}" for each in measured)],
        ["last guest done, s", *(f"{each.last_guest:.2f}" for each in measured)],
        ["upstream's own time, s", *(f"{each.own_time:.2f}" for each in measured)],
        ["added to it, s", *(f"{each.added:.2f}" for each in measured)],
        [
            "a request, ms: p50 / p99 / slowest",
            *(
                " / ".join(f"{1000 * time:.0f}" for time in (each.p50, each.p99, each.slowest))
                for each in measured
            ),
        ],
        ["errors", *(str(each.errors) for each in measured)],
        ["requests sent again", *(str(each.retries) for each in measured)],
        ["TCP retransmissions", *(str(each.retransmissions) for each in measured)],
        ["CPU, s", *(f"{each.cpu:.2f}" for each in measured)],
        ["CPU per request, ms", *(f"{1000 * each.cpu / each.requests:.2f}" for each in measured)],
        ["memory, MiB", *(f"{each.memory:.0f}" for each in measured)],
    ]
    names = dict.fromkeys(name for each in measured for name in each.processes)
    table += [
        [f"{name}: CPU, s / MiB", *(_used(each.processes.get(name)) for each in measured)]
        for name in names
    ]
    table.append(["whole machine: CPU, s", *(f"{each.machine_cpu:.2f}" for each in measured)])
    lines = [f"| {' | '.join(row)} |" for row in table]
    lines += [
        f"{each.service}, {each.upstream}: {error}"
        for each in measured
        for error in each.first_errors
    ]
    return "\n".join(lines)


def _used(usage: Usage | None) -> str:
    return f"{usage.cpu:.2f} / {usage.rss:.0f}" if usage else ""
