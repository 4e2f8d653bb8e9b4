"""`ovs-metadata doctor`: which hop between an instance and Nova is broken, and what to do."""

import os
import sys
from typing import TYPE_CHECKING

import click

from ovs_metadata.agent.cli.common import Failure, Settings, console, output_format, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ovs_metadata.agent.doctor.finding import Diagnosis, Finding, HopReport

CANNOT_TELL = 3
"""Exit status where nothing can be found out."""

SHOWN = 6
"""Findings that are told in full on a screen."""

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
    """Say which hop between the instances of this host and Nova is broken, why, and what to do.

    PORT is a port UUID, an instance UUID, an interface name or a fixed IP; without it, all ports of
    this host are looked at. Needs root. Changes nothing.

    Exit status: 0 nothing is wrong, 1 there are warnings, 2 something is broken, 3 it cannot be
    found out.

    --format json prints an object: "host", "subject" (PORT), "verdict" (healthy, warnings or
    broken), "hops" and "findings". Each hop has "hop", "state" (right, warning, broken or unknown),
    "seen", and "skipped", why it is unknown. Each finding has "name", "hop", "severity" (note,
    warning or error), "subject", "what" is wrong, "why" it is said, and "remedy".
    """
    settings: Settings = context.obj
    if os.geteuid() != 0:
        raise Failure(
            "must be run as root: it looks into Open vSwitch and network namespaces", CANNOT_TELL
        )
    from ovs_metadata.agent.doctor.diagnosis import Order, diagnose, unreadable  # noqa: PLC0415
    from ovs_metadata.host.config import ConfigError, load  # noqa: PLC0415

    try:
        config = load(settings.config)
    except ConfigError as error:
        found = unreadable(error, port)
    else:
        found = diagnose(config, Order(port, settings.store, request))
    if output == "json":
        print_json(found.document())
    else:
        _print(found)
    context.exit(found.exit_status)


def _print(diagnosis: "Diagnosis") -> None:
    from rich.text import Text  # noqa: PLC0415

    screen = console()
    of_what = f"port {diagnosis.subject} on " if diagnosis.subject else ""
    screen.print(Text(f"{of_what}host {diagnosis.host or 'unknown'}: {diagnosis.verdict}", "bold"))
    screen.print(_table(diagnosis.hops))
    findings = diagnosis.findings
    for finding in findings[:SHOWN]:
        screen.print(_told(finding))
    if len(findings) > SHOWN:
        screen.print(Text(f"and {len(findings) - SHOWN} more: --format json has all of them"))


def _table(hops: "tuple[HopReport, ...]") -> "RenderableType":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, show_header=False, pad_edge=False)
    for each in hops:
        mark, style = _MARKS[each.state]
        names = dict.fromkeys(finding.fault.name for finding in each.findings)
        said = ", ".join(names) or (f"not known: {each.skipped}" if each.skipped else each.seen)
        # Where the output's encoding has no such mark, the word says it.
        table.add_row(
            Text(mark if _can_print(mark) else each.state, style), each.hop.value, Text(said)
        )
    return table


def _can_print(mark: str) -> bool:
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _told(finding: "Finding") -> "RenderableType":
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    style = {"error": "bold red", "warning": "yellow", "note": "dim"}[finding.severity.word]
    text = Text.assemble(
        (f"{finding.severity.word}: {finding.fault.name}", style),
        f" {finding.subject}".rstrip(),
        f"\n{finding.fault.what}\nwhy:  {finding.why}\nto do: {finding.fault.remedy}",
    )
    return Padding(text, (1, 0, 0, 0))
