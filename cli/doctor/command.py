"""`ovs-metadata doctor`: which hop between an instance and Nova is broken, and what to do."""

import os
import sys
from collections.abc import Iterator

import click
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ovs_metadata.cli.common import (
    CliContext,
    CommandError,
    output_format,
    print_json,
    print_rendered,
    rendered,
)
from ovs_metadata.cli.doctor.evidence import DiagnosisOptions
from ovs_metadata.cli.doctor.hops import diagnose, unreadable
from ovs_metadata.cli.doctor.report import Diagnosis, Finding, HopReport
from ovs_metadata.host.config import ConfigError, load
from ovs_metadata.untrusted import printable

CANNOT_TELL = 3
"""Exit status where nothing can be found out."""

SCREEN = 30
"""Lines that the report may have, if there is more than one finding."""

_MARKS = {
    "right": ("✓", "green"),
    "warning": ("!", "yellow"),
    "broken": ("✗", "bold red"),
    "unknown": ("·", "dim"),
}


@click.command()
@click.argument("port", required=False, default="")
@click.option(
    "--request/--no-request",
    default=True,
    show_default=True,
    help="Send one request into the switch as if the instance had; the instance sees nothing of "
    "it.",
)
@output_format
@click.pass_context
def doctor(context: click.Context, port: str, output: str, *, request: bool) -> None:
    """Show which hop between this host's instances and Nova is broken, why, and what to do.

    PORT is a port UUID, an instance UUID, an interface name or a fixed IP; without it, all ports of
    this host are looked at. Needs root. Changes nothing.

    Exit status: 0 nothing is wrong, 1 there are warnings, 2 something is broken, 3 it cannot be
    found out.

    --format json prints an object: "host", "subject" (PORT), "verdict" (healthy, warnings or
    broken), "hops" and "findings". Each hop has "hop", "state" (right, warning, broken or unknown),
    "seen", and "skipped", why it is unknown. Each finding has "name", "hop", "severity" (note,
    warning or error), "subject", "what" is wrong, "why" (the evidence), and "remedy".
    """
    cli: CliContext = context.obj
    if os.geteuid() != 0:
        raise CommandError(
            "must be run as root: it looks into Open vSwitch and network namespaces", CANNOT_TELL
        )

    try:
        config = load(cli.config)
    except ConfigError as error:
        found = unreadable(error, port)
    else:
        found = diagnose(config, DiagnosisOptions(port, cli.store, request))
    if output == "json":
        print_json(found.document())
    else:
        _print(found)
    context.exit(found.exit_status)


def _print(diagnosis: Diagnosis) -> None:
    """What is wrong first of all, and the rest as far as it fits on a screen."""
    of_what = f"port {diagnosis.subject} on " if diagnosis.subject else ""
    title = Text(
        _shown(f"{of_what}host {diagnosis.host or 'unknown'}: {diagnosis.verdict}"), "bold"
    )
    lines = rendered(title, _table(diagnosis.hops))
    findings = diagnosis.findings
    for number, finding in enumerate(findings):
        shown = ([] if number else [""]) + rendered(*_rendered_finding(finding))
        more = number + 1 < len(findings)
        if number and len(lines) + len(shown) + more > SCREEN:
            left = len(findings) - number
            lines.append(f"and {left} more: --format json has all of them")
            break
        lines += shown
    print_rendered(lines)


def _table(hops: tuple[HopReport, ...]) -> RenderableType:
    """A line for each hop, and no more."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis" if _can_print("…") else "crop")
    for each in hops:
        mark, style = _MARKS[each.state]
        names = dict.fromkeys(finding.fault.name for finding in each.findings)
        text = ", ".join(names) or (f"not known: {each.skipped}" if each.skipped else each.seen)
        # Where the output's encoding has no such mark, the word says it.
        table.add_row(
            Text(mark if _can_print(mark) else each.state, style),
            each.hop.value,
            Text(_shown(text)),
        )
    return table


def _shown(text: str) -> str:
    return printable(text, sys.stdout.encoding)


def _can_print(mark: str) -> bool:
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _rendered_finding(finding: Finding) -> Iterator[RenderableType]:
    style = {"error": "bold red", "warning": "yellow", "note": "dim"}[finding.severity.word]
    title = (f"{finding.severity.word}: {finding.fault.name}", style)
    yield Text.assemble(title, _shown(f" {finding.subject}".rstrip()))
    for line in (finding.fault.what, f"why: {finding.why}", f"to do: {finding.fault.remedy}"):
        yield Padding(Text(_shown(line)), (0, 0, 0, 2))
