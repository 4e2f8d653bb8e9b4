"""`make bench-proxy`: what relaying a metadata request costs, beside others that do the same.

Measures proxy workers, haproxy with the same rules, Neutron's metadata agent, and the upstream
itself, in turns. README.md beside this file says what each figure is. Everything runs on the
loopback interface; the exit status is 1 if any answer, Neutron's apart, was not the one expected.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, cast

from benchmarks.proxy_load import Job, Result
from benchmarks.proxy_report import NEUTRON, Case, Figures, rows, show
from benchmarks.proxy_targets import BODY_LENGTH, TARGETS, TORNADO, Lab, Target
from rich.console import Console

from lab.rig.process import LabError

PATHS = [
    "/openstack",
    "/openstack/2018-08-27/meta_data.json",
    "/openstack/2018-08-27/user_data",
    "/openstack/2018-08-27/vendor_data.json",
    "/openstack/2018-08-27/network_data.json",
    "/2009-04-04/meta-data/instance-id",
    "/2009-04-04/meta-data/public-keys/0/openssh-key",
]
"""Some of what cloud-init asks for; the answers are all alike."""

HEADERS = (
    "Host: 169.254.169.254\r\n"
    "User-Agent: Cloud-Init/22.4.2\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Accept: */*\r\n"
    "Connection: keep-alive\r\n"
)
"""What cloud-init sends. It closes the connection itself when it has its answer."""

UPSTREAMS = ("plain", "delay", "https")
MODES = {"new": False, "keep-alive": True}
FEWER_CONNECTIONS = {"delay": (16, 64), "https": (16,)}
"""Numbers of connections with the upstreams that are not measured with all."""

WARM_UP = 0.3


def measure(lab: Lab, target: Target, case: Case, duration: float) -> Figures:
    """Take one round's figures of a target that is running.

    Raises:
        LabError: the target or the load has ended.
    """
    job = Job(
        port=target.port,
        connections=case.connections,
        keep_alive=case.keep_alive,
        warm_up=WARM_UP,
        duration=duration,
        length=BODY_LENGTH,
        identities={guest.address: guest.instance_id for guest in lab.guests},
        paths=PATHS,
        headers=HEADERS,
        show_identity=target.show_identity,
    )
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("proxy_load.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as load:
        try:
            _tell(load, json.dumps(asdict(job)))
            _hear(load)
            before = target.usage()
            _tell(load, "go")
            result = Result(**json.loads(_hear(load)))
            after = target.usage()
        finally:
            load.kill()
    return Figures(
        cpu=1e6 * (after.cpu - before.cpu) / max(1, result.requests),
        rate=result.requests / result.seconds,
        p50=result.p50,
        p99=result.p99,
        rss=after.rss,
        requests=result.requests,
        errors=result.errors,
        first_error=result.first_error,
    )


def _tell(load: "subprocess.Popen[str]", line: str) -> None:
    stream = cast("IO[str]", load.stdin)
    stream.write(f"{line}\n")
    stream.flush()


def _hear(load: "subprocess.Popen[str]") -> str:
    line = cast("IO[str]", load.stdout).readline()
    if not line:
        raise LabError("the load's process has ended")
    return line


def cases(upstream: str, modes: list[str], connections: list[int]) -> list[Case]:
    """The cases that are measured with a kind of upstream."""
    numbers = connections
    if upstream in FEWER_CONNECTIONS:
        numbers = [each for each in connections if each in FEWER_CONNECTIONS[upstream]]
        numbers = numbers or connections[-1:]
    return [Case(upstream, MODES[mode], number) for mode in modes for number in numbers]


def run(options: argparse.Namespace, console: Console) -> dict[tuple[Case, str], list[Figures]]:
    """Take all figures: per case and target, those of each round.

    Raises:
        LabError: something did not start, or ended.
    """
    measured: dict[tuple[Case, str], list[Figures]] = {}
    for kind in options.upstreams:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bp-")))
            lab = Lab(directory, stack, access_log=options.access_log, share=options.share)
            upstream = lab.upstream(kind)
            # The load does not speak https, so it can ask that upstream only through a proxy.
            names = [name for name in options.only if (kind, name) != ("https", "upstream")]
            targets = [lab.target(name, upstream) for name in names]
            for turn in range(options.rounds):
                for case in cases(kind, options.modes, options.connections):
                    for target in targets:
                        figures = measure(lab, target, case, options.duration)
                        measured.setdefault((case, target.name), []).append(figures)
                console.print(f"{kind}: round {turn + 1} of {options.rounds} done")
    return measured


def _one_of(*allowed: str) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
        return names

    return parse


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers") from None
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("a number of connections is at least 1")
    return numbers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy", description=__doc__)
    parser.add_argument(
        "--only",
        type=_one_of(*TARGETS, *TORNADO),
        default=list(TARGETS),
        metavar="TARGET[,…]",
        help=f"targets: {', '.join(TARGETS)} (all); besides: {', '.join(TORNADO)}",
    )
    parser.add_argument(
        "--upstreams",
        type=_one_of(*UPSTREAMS),
        metavar="KIND[,…]",
        help=f"kinds of upstream: {', '.join(UPSTREAMS)} (all; with --quick plain)",
    )
    parser.add_argument(
        "--modes",
        type=_one_of(*MODES),
        default=list(MODES),
        metavar="MODE[,…]",
        help="new (a connection for each request), keep-alive (both)",
    )
    parser.add_argument(
        "--connections",
        type=_numbers,
        metavar="N[,…]",
        help="concurrent connections (1,16,64; with --quick 16)",
    )
    parser.add_argument("--rounds", type=int, help="rounds, whose medians are shown (5; 3)")
    parser.add_argument("--duration", type=float, help="seconds of each measurement (2; 1)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter: see the others")
    parser.add_argument(
        "--access-log", action="store_true", help="have workers and haproxy log each request"
    )
    parser.add_argument(
        "--share",
        type=int,
        default=0,
        metavar="PERCENT",
        help="of a processor that each worker gets: tells what two do that one does, with --only "
        "worker,workers-2",
    )
    parser.add_argument(
        "--format",
        choices=("table", "markdown", "json"),
        default="table",
        help="of the result (table)",
    )
    return parser


def main() -> int:
    """Take the figures and print them."""
    options = _parser().parse_args()
    quick = options.quick
    options.upstreams = options.upstreams or (["plain"] if quick else list(UPSTREAMS))
    options.connections = options.connections or ([16] if quick else [1, 16, 64])
    options.rounds = options.rounds or (3 if quick else 5)
    options.duration = options.duration or (1.0 if quick else 2.0)
    progress = Console(stderr=True)
    # As by Ctrl-C: processes are ended and files removed on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = rows(run(options, progress))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.format == "json":
        print(json.dumps([row.to_json() for row in result], indent=1))
    else:
        width = None if sys.stdout.isatty() else 120
        show(result, Console(width=width), markdown=options.format == "markdown")
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        print(f"{os.cpu_count()} processors; load average at the end: {load}")
    failed = [row for row in result if row.figures.errors]
    sys.stdout.flush()
    for row in failed:
        print(
            f"{row.target}, {row.case.upstream}, {row.case.mode}, {row.case.connections}: "
            f"{row.figures.errors} errors, the first: {row.figures.first_error}",
            file=sys.stderr,
        )
    # What Neutron does not answer is a finding, not a fault of the measurement.
    return 1 if any(row.target != NEUTRON for row in failed) else 0


if __name__ == "__main__":
    sys.exit(main())
