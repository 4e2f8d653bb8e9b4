"""What `ovs-metadata doctor` finds out, printed: a report for people, or rows for scripts."""

import shutil
import sys

import click
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from ovs_metadata.cli.agents import announced_agents
from ovs_metadata.cli.common import UNREACHABLE, CliContext, CommandError
from ovs_metadata.cli.doctor.advice import Shell
from ovs_metadata.cli.doctor.evidence import DiagnosisOptions
from ovs_metadata.cli.doctor.fleet import diagnose_hosts
from ovs_metadata.cli.doctor.hops import diagnose, unreadable
from ovs_metadata.cli.doctor.report import Diagnosis, Finding, HopName, HopReport, Severity
from ovs_metadata.cli.listing import Cell, Listing
from ovs_metadata.cli.tables import print_rendered, rendered
from ovs_metadata.host.config import ConfigError, load
from ovs_metadata.quantities import count_of
from ovs_metadata.untrusted import printable

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}

SCREEN = 23
"""Lines that the report may have, if there is more than one finding: a terminal has 24."""

_MARKS = {
    "right": ("✓", "green"),
    "warning": ("!", "yellow"),
    "broken": ("✗", "bold red"),
    "unknown": ("·", "dim"),
}

FINDING_COLUMNS = ("severity", "finding", "subject", "why", "to do", "commands")
HOST_COLUMNS = ("host", "severity", "finding", "why")


def show_host(cli: CliContext, port: str, listing: Listing, *, request: bool) -> int:
    """Diagnose this host, or one port of it, and print that; returns the exit status.

    Args:
        cli: the group's options.
        port: what the user calls the port; empty for all.
        listing: in which format.
        request: whether a request may be sent into the switch.
    """
    try:
        config = load(cli.config)
    except ConfigError as error:
        found = unreadable(error, port)
    else:
        found = diagnose(config, DiagnosisOptions(port, cli.store, request))
    if listing.is_report:
        _print(found)
    else:
        listing.show(FINDING_COLUMNS, _rows_of(found), found.document())
    return found.exit_status


def _rows_of(diagnosis: Diagnosis) -> list[list[Cell]]:
    """The findings, a row each."""
    return [
        [
            *(each.severity.word, each.fault.name, each.subject, each.why, each.remedy),
            each.commands(diagnosis.shell),
        ]
        for each in diagnosis.findings
    ]


def show_hosts(cli: CliContext, pattern: str, listing: Listing) -> int:
    """Print what is known of other hosts; returns the exit status.

    Raises:
        CommandError: there is no such host.
    """
    found = diagnose_hosts(announced_agents(cli), pattern)
    if not found.hosts:
        raise CommandError(f"no agent has announced a host like {pattern}", UNREACHABLE)
    if not listing.is_report:
        rows = [
            [host.host, each.severity.word, each.name, each.why]
            for host in found.hosts
            for each in host.findings
        ]
        listing.show(HOST_COLUMNS, rows, found.document())
        return found.exit_status
    words = {"warnings": "with warnings"}
    counts = [
        f"{number} {words.get(each, each)}" for each, number in found.counts.items() if number
    ]
    lines = rendered(Text(f"{count_of(len(found.hosts), 'host')}: {', '.join(counts)}", "bold"))
    for host in found.hosts:
        for each in host.findings:
            line = Text(no_wrap=True, overflow="ellipsis" if _can_print("…") else "crop")
            line.append(f"{each.severity.word}: ", _STYLES[each.severity])
            lines += rendered(line.append(_shown(f"{host.host} {each.name}: {each.why}")))
    print_rendered(lines)
    return found.exit_status


def _print(diagnosis: Diagnosis) -> None:
    """Print the faults first, and the rest as far as it fits on a screen."""
    of_what = f"port {diagnosis.subject} on " if diagnosis.subject else ""
    title = Text(
        _shown(f"{of_what}host {diagnosis.host or 'unknown'}: {diagnosis.verdict}"), "bold"
    )
    besides = [Text(_shown(line)) for hop in diagnosis.hops for line in hop.besides]
    lines = rendered(title, *map(_hop_line, diagnosis.hops), *besides)
    findings = diagnosis.findings
    for number, finding in enumerate(findings):
        left = len(findings) - number
        shown = ([] if number else [""]) + _finding_lines(finding, diagnosis.shell)
        if number and _rows(lines) + _rows(shown) + left - 1 > SCREEN:
            shown = rendered(_short(finding))
        if number and _rows(lines) + 1 + (left > 1) > SCREEN:
            lines.append(f"and {left} more: --format json has all of them")
            break
        lines += shown
    print_rendered(lines)


def _hop_line(report: HopReport) -> RenderableType:
    """One line: mark and name whole, and of the rest as much as fits."""
    mark, style = _MARKS[report.state]
    names = dict.fromkeys(finding.fault.name for finding in report.findings)
    text = ", ".join(names) or (f"not known: {report.skipped}" if report.skipped else report.seen)
    # Where the output's encoding has no such mark, the word says it.
    marked = mark if _can_print(mark) else report.state.ljust(_STATES)
    line = Text(no_wrap=True, overflow="ellipsis" if _can_print("…") else "crop")
    line.append(marked, style)
    return line.append(f"  {report.hop.value:<{_NAMES}}  {_shown(text)}")


_NAMES = max(map(len, HopName))
_STATES = max(map(len, _MARKS))


def _rows(lines: list[str]) -> int:
    """The rows of the terminal that lines take: commands may be longer than one."""
    width = shutil.get_terminal_size().columns
    return sum(max(1, -(-len(click.unstyle(line)) // width)) for line in lines)


def _shown(text: str) -> str:
    return printable(text, sys.stdout.encoding)


def _can_print(mark: str) -> bool:
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _short(finding: Finding) -> Text:
    """The finding on one line, where there is no room for more."""
    what = f"{finding.fault.name} {finding.subject}".rstrip()
    line = Text(no_wrap=True, overflow="ellipsis" if _can_print("…") else "crop")
    line.append(f"{finding.severity.word}: {_shown(what)}", _STYLES[finding.severity])
    return line.append(_shown(f": {finding.why}"))


def _finding_lines(finding: Finding, shell: Shell) -> list[str]:
    """The finding in words, and its commands, which the screen may break but no line end does."""
    title = (f"{finding.severity.word}: {finding.fault.name}", _STYLES[finding.severity])
    texts = (finding.fault.what, f"why: {finding.why}", f"to do: {finding.remedy}")
    lines = rendered(
        Text.assemble(title, _shown(f" {finding.subject}".rstrip())),
        *(Padding(Text(_shown(text)), (0, 0, 0, 2)) for text in texts),
    )
    return [*lines, *(f"    {_shown(command)}" for command in finding.commands(shell))]
