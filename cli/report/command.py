"""`ovs-metadata report`: writes one archive about this host, with secrets taken out."""

import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

import ovs_metadata
from ovs_metadata.cli.common import FAILURE, CliContext, CommandError, echo
from ovs_metadata.cli.report.archive import Archive
from ovs_metadata.cli.report.bounded_run import ProgramOutput, bounded_run
from ovs_metadata.cli.report.known_secrets import known_secrets
from ovs_metadata.cli.report.parts import parts
from ovs_metadata.cli.report.redaction import Redactor
from ovs_metadata.host.config import DEFAULT_PATH, Config, ConfigError, load
from ovs_metadata.quantities import count_of
from ovs_metadata.regular_file import open_regular
from ovs_metadata.utc import utc

MAX_PART = 4 * 1024 * 1024
MAX_REPORT = 64 * 1024 * 1024
"""Bytes of one part, and of all together before they are packed."""

PART_TIMEOUT = 40.0
REPORT_TIMEOUT = 240.0
"""Seconds of one part, and of all together."""

DEFAULTS = "/dev/null"
"""A configuration file without options."""


@click.command()
@click.option(
    *("-o", "--output", "output"),
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the archive there.  [default: ovs-metadata-report-HOST-TIME.tar.gz]",
)
@click.pass_obj
def report(cli: CliContext, output: Path | None) -> None:
    """Write one archive about this host, for who is to find out what is wrong with it.

    It has what doctor, status and flows print, OVSDB, OpenFlow's and the datapath's flows, the
    journal, firewall rules, the configuration, and versions. Secrets are taken out; names,
    addresses and UUIDs are not: look through it before you give it away. What cannot be read is
    left out, and report.txt in the archive says why. Only the user who runs it can read it. Needs
    root. Changes nothing.

    Exit status: 0 the archive is written, 1 it is not, 2 usage.
    """
    if os.geteuid() != 0:
        raise CommandError("must be run as root: it reads Open vSwitch, the journal, namespaces")
    try:
        config, problem = load(cli.config), ""
    except ConfigError as error:
        config, problem = load(DEFAULTS), str(error)
    now = utc(time.time())
    stamp = re.sub(r"[^0-9TZ]", "", now)
    directory = f"ovs-metadata-report-{re.sub(r'[^A-Za-z0-9.-]', '_', config.host)}-{stamp}"
    if output is not None and not output.name:
        raise click.BadParameter("it names no file.", param_hint="-o")
    path = output or Path(f"{directory}.tar.gz")
    redactor = Redactor(set(known_secrets(config, cli.store)))
    contents = [f"ovs-metadata {ovs_metadata.__version__}, host {config.host}, {now}", ""]
    if problem:
        contents += [problem, "The rest is for the defaults.", ""]
    missing = 0
    try:
        with Archive(path, directory) as archive:
            for part in _collected(config, cli, redactor):
                contents.append(str(part))
                missing += not part.data
                if part.data:
                    archive.add(part.name, part.data)
            text = redactor.clean("\n".join(contents))
            archive.add("report.txt", f"{text}\n".encode("utf-8", "replace"))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}", FAILURE) from error
    left_out = f", {count_of(missing, 'part')} left out (report.txt says why)" if missing else ""
    echo(f"{path}: {path.stat().st_size} bytes{left_out}")


@dataclass(frozen=True, slots=True)
class _Collected:
    """A part of the report. problem: what is not as it should be."""

    name: str
    data: bytes
    seconds: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        state = f"{len(self.data)} bytes" if self.data else "left out"
        return f"{self.name}: {state}, {self.seconds:.1f} s" + (
            f"; {self.problem}" if self.problem else ""
        )


def _collected(config: Config, cli: CliContext, redactor: Redactor) -> Iterator[_Collected]:
    """All parts, with the secrets taken out; each is reported on standard error."""
    started, size = time.monotonic(), 0
    yield _Collected("versions.txt", _versions().encode())
    yield _of_file(Path(cli.config) if cli.config else DEFAULT_PATH, redactor)
    for part in parts(config, cli.config, cli.store):
        begun = time.monotonic()
        left = min(PART_TIMEOUT, started + REPORT_TIMEOUT - begun)
        room = min(MAX_PART, MAX_REPORT - size)
        echo(part.name, err=True)
        found = ProgramOutput(b"", "no time is left for it")
        if room <= 0:
            found = ProgramOutput(b"", "the report has no room for it")
        elif left > 0:
            found = bounded_run(part.command, seconds=left, size=room, environment=_ENVIRONMENT)
        data = _clean(found, redactor)
        size += len(data)
        problem = "; ".join(filter(None, [found.ended, "its end is cut off" * found.is_cut]))
        collected = _Collected(part.name, data, time.monotonic() - begun, problem)
        if problem:
            echo(f"  {redactor.clean(problem)}", err=True)
        yield collected


_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name.startswith("OVS_")},
    "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
    "LC_ALL": "C.UTF-8",
    "COLUMNS": "200",
    "NO_COLOR": "1",
}
"""No credentials of the operator's are in it."""


def _clean(found: ProgramOutput, redactor: Redactor) -> bytes:
    """An output without secrets. One that was cut ends with a whole line: half a secret is none."""
    data = found.data
    if found.is_cut:
        data = data[: data.rfind(b"\n") + 1]
    return redactor.clean(data.decode("utf-8", "replace")).encode()


def _of_file(path: Path, redactor: Redactor) -> _Collected:
    """The configuration file."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_PART)
    except OSError as error:
        return _Collected("agent.conf", b"", problem=f"{path}: {error.strerror}")
    return _Collected("agent.conf", redactor.clean(data.decode("utf-8", "replace")).encode())


def _versions() -> str:
    """Versions of this distribution, Python, and what is installed beside it."""
    found = {each.name: each.version for each in importlib.metadata.distributions()}
    lines = [
        f"ovs-metadata {ovs_metadata.__version__}",
        f"Python {platform.python_version()}, {sys.executable}",
        f"{platform.system()} {platform.release()} {platform.machine()}",
        *(f"{name} {version}" for name, version in sorted(found.items())),
    ]
    return "\n".join(lines) + "\n"
