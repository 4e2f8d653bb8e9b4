"""Examines the way of a request, hop by hop. The needs of hops, and their order, are data.

A hop is examined after the hops that it needs. If one of those has a fault that it needs absent,
the hop is skipped and the report has the reason, so that one fault is reported once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Generic, TypeVar

from ovs_metadata.cli.doctor.report import CannotTell, Fault, HopName, HopReport

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Need:
    """What a hop needs: that none of these faults is found in `hop`, or else it is not examined.

    otherwise: what its report says then.
    """

    hop: HopName
    faults: frozenset[Fault]
    otherwise: str


@dataclass(frozen=True, slots=True)
class Hop(Generic[E]):
    """One hop.

    faults: all that can be found in it, in the order of docs/troubleshooting.md.
    examine: makes its report from the evidence; may raise CannotTell. Its second argument is
        whether the fault of another hop explains all its findings.
    needs: what must be right for that.
    explained_by: hops whose errors explain what this one finds, which is left out then.
    unexplained: faults that nothing explains.
    """

    name: HopName
    faults: Collection[Fault]
    examine: Callable[[E, bool], HopReport]
    needs: Sequence[Need] = ()
    explained_by: Collection[HopName] = ()
    unexplained: Collection[Fault] = ()


def run(hops: Sequence[Hop[E]], evidence: E) -> tuple[HopReport, ...]:
    """Examine the hops, each after those that it names; report in their own order."""
    by_name = {hop.name: hop for hop in hops}
    earlier = {hop.name: [*(need.hop for need in hop.needs), *hop.explained_by] for hop in hops}
    reports: dict[HopName, HopReport] = {}
    for name in TopologicalSorter(earlier).static_order():
        reports[name] = _report(by_name[name], evidence, reports)
    return tuple(reports[hop.name] for hop in hops)


def _report(hop: Hop[E], evidence: E, reports: Mapping[HopName, HopReport]) -> HopReport:
    for need in hop.needs:
        if any(finding.fault in need.faults for finding in reports[need.hop].findings):
            return HopReport(hop.name, skipped=need.otherwise)
    explained = any(reports[name].state == "broken" for name in hop.explained_by)
    try:
        report = hop.examine(evidence, explained)
    except CannotTell as error:
        return HopReport(hop.name, skipped=str(error))
    return _without_echo(hop, report) if explained else report


def _without_echo(hop: Hop[E], report: HopReport) -> HopReport:
    """The report without what another hop's fault explains: that would be no second fault."""
    kept = tuple(each for each in report.findings if each.fault in hop.unexplained)
    if kept == report.findings:
        return report
    why = f"{report.seen or report.skipped}: the other findings explain it"
    return HopReport(hop.name, kept, skipped=why)
