"""`make bench-worst-guest`: how much slower a guest is answered while another does its worst.

Two guests on loopback addresses. The bystander asks a worker on a new connection each time, at a
steady rate, and is timed from its first packet to the last byte of the answer. For each act
(`lab.hostile_guest`), and for all at once, it is timed in turns alone, beside the act against
another worker, and beside the act against its own, so that all three meet the same machine.
README.md beside this file says more.

The worker has one processor, all other processes the other. If root runs it, the worker, the
bystander and the upstream have real-time priority (SCHED_FIFO): the figures then are what an act
costs the worker. The act against another worker shows what it costs by way of the machine.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab.attack.hostile_guest import ACTS
from lab.rig.proxy_process import ProxyProcess, guest_address

HOSTILE, BYSTANDER = 2, 3
ALL = "all"
"""All acts at once."""

_REQUEST = b"GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
_DEADLINE = 20.0
_WARM_UP = 0.5
"""Seconds an act goes on before the bystander is timed, and that the worker gets afterwards."""


@dataclass(frozen=True)
class Round:
    """Times in milliseconds of the bystander's requests, and how many of them failed."""

    times: list[float]
    failed: int

    def percentile(self, percent: float) -> float:
        """By nearest rank; the largest when there are few."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass(frozen=True)
class Result:
    """What an act came to: medians over the rounds, milliseconds and MiB."""

    act: str
    alone_p50: float
    alone_p99: float
    elsewhere_p99: float
    """Beside the act against another worker."""
    beside_p50: float
    beside_p99: float
    ratio_p50: float
    ratio_p99: float
    """The median of the rounds' own ratios, each of a round beside the act to that before it."""
    ratio_elsewhere: float
    """The same ratio of the p99 beside the act against another worker."""
    ratio_p99_range: tuple[float, float]
    requests: int
    failed: int
    memory: float
    """The worker's largest resident memory during the act."""
    descriptors: int
    done: dict[str, int]
    """The hostile guest's tally."""


def ask(port: int) -> float:
    """Ask once as the bystander; return the milliseconds it took, raise OSError if it failed."""
    began = time.perf_counter()
    with socket.create_connection((guest_address(BYSTANDER), port), _DEADLINE) as sock:
        sock.sendall(_REQUEST)
        data = bytearray()
        while piece := sock.recv(65536):
            data += piece
    if not data.startswith(b"HTTP/1.1 200 ") or len(data) < 1024:
        raise ConnectionError(f"answered with {bytes(data[:100])!r}")
    return (time.perf_counter() - began) * 1000


def measure(port: int, *, seconds: float, interval: float) -> Round:
    """Ask every so many seconds, or as soon as the answer is there when it takes longer."""
    times: list[float] = []
    failed = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        try:
            times.append(ask(port))
        except OSError as error:
            failed += 1
            print(f"the bystander was not answered: {error}", file=sys.stderr)
        time.sleep(max(0.0, interval - (time.monotonic() - began)))
    if not times:
        raise SystemExit("the bystander was never answered")
    return Round(times, failed)


@contextlib.contextmanager
def running(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the lab, ended with the block; its output is a pipe."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def acting(name: str, target: ProxyProcess, options: argparse.Namespace) -> Iterator[Counter[str]]:
    """An act against a worker goes on meanwhile; its tally is there after the block."""
    acts = sorted(ACTS) if name == ALL else [name]
    arguments = (
        *("--target", f"{guest_address(HOSTILE)}:{target.port}"),
        *("--seconds", str(options.seconds + 2 * _WARM_UP)),
        *("--width", str(options.width if len(acts) == 1 else options.width // 4), *acts),
    )
    tally: Counter[str] = Counter()
    with running("lab.attack.hostile_guest", *arguments) as hostile:
        time.sleep(_WARM_UP)
        yield tally
        output, _ = hostile.communicate(timeout=_DEADLINE)
    tally.update(json.loads(output))
    time.sleep(_WARM_UP)


def play(
    proxy: ProxyProcess, other: ProxyProcess, name: str, options: argparse.Namespace
) -> Result:
    """Measure one act, round by round."""
    alone, elsewhere, beside = [], [], []
    memory, descriptors = 0.0, 0
    done: Counter[str] = Counter()

    def timed() -> Round:
        return measure(proxy.port, seconds=options.seconds, interval=options.interval)

    for _ in range(options.rounds):
        alone.append(timed())
        with acting(name, other, options):
            elsewhere.append(timed())
        with acting(name, proxy, options) as tally:
            beside.append(timed())
            memory = max(memory, proxy.memory())
            descriptors = max(descriptors, proxy.descriptors())
        done += tally

    def ratios(rounds: Sequence[Round], percent: float) -> list[float]:
        pairs = zip(rounds, alone, strict=True)
        return [one.percentile(percent) / other.percentile(percent) for one, other in pairs]

    def middle(rounds: Sequence[Round], percent: float) -> float:
        return statistics.median(each.percentile(percent) for each in rounds)

    ratios_p99 = ratios(beside, 99)
    return Result(
        act=name,
        alone_p50=middle(alone, 50),
        alone_p99=middle(alone, 99),
        elsewhere_p99=middle(elsewhere, 99),
        beside_p50=middle(beside, 50),
        beside_p99=middle(beside, 99),
        ratio_p50=statistics.median(ratios(beside, 50)),
        ratio_p99=statistics.median(ratios_p99),
        ratio_p99_range=(min(ratios_p99), max(ratios_p99)),
        ratio_elsewhere=statistics.median(ratios(elsewhere, 99)),
        requests=sum(len(each.times) for each in beside),
        failed=sum(each.failed for each in (*alone, *elsewhere, *beside)),
        memory=memory,
        descriptors=descriptors,
        done=dict(done),
    )


def show(results: Sequence[Result]) -> Table:
    """The results as a table."""
    table = Table(title="A guest's requests (ms, median of rounds) beside one that does its worst")
    table.add_column("act")
    for heading in ("p50 alone", "beside", "p99 alone", "elsewhere", "beside"):
        table.add_column(heading, justify="right")
    for heading in ("ratio p50", "p99", "of rounds", "elsewhere", "failed", "MiB", "fds"):
        table.add_column(heading, justify="right")
    for each in results:
        table.add_row(
            each.act,
            *(f"{time:.2f}" for time in (each.alone_p50, each.beside_p50)),
            *(f"{time:.2f}" for time in (each.alone_p99, each.elsewhere_p99, each.beside_p99)),
            *(f"{ratio:.2f}" for ratio in (each.ratio_p50, each.ratio_p99)),
            "{:.2f} to {:.2f}".format(*each.ratio_p99_range),
            f"{each.ratio_elsewhere:.2f}",
            f"{each.failed} of {each.requests}",
            f"{each.memory:.0f}",
            str(each.descriptors),
        )
    return table


def set_processor(number: int) -> None:
    """Run on this processor from now on, and with it whatever is started; if there are two."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) > 1:
        os.sched_setaffinity(0, {processors[number]})


def go_first(pid: int = 0) -> None:
    """Have a process, but none it starts from now on, go before the machine's others; root may."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def run(options: argparse.Namespace) -> list[Result]:
    """Measure every act that was asked for."""
    settings: dict[str, Any] = {"access_log": "off"}
    if options.rate_limit:
        settings["rate_limit"] = options.rate_limit
    all_processors = os.sched_getaffinity(0)
    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(os.sched_setaffinity, 0, all_processors)
        stack.callback(os.sched_setscheduler, 0, os.SCHED_OTHER, os.sched_param(0))

        def worker(name: str) -> ProxyProcess:
            return stack.enter_context(
                ProxyProcess(
                    Path(directory) / name,
                    python=sys.executable,
                    nova=url,
                    guests=(HOSTILE, BYSTANDER),
                    **settings,
                )
            )

        set_processor(1)
        nova = stack.enter_context(running("lab.stand_ins.big_answers"))
        if nova.stdout is None:
            raise RuntimeError("the upstream was started without a pipe")
        url = f"http://127.0.0.1:{int(nova.stdout.readline())}"
        other = worker("other")
        os.sched_setaffinity(0, all_processors)
        set_processor(0)
        proxy = worker("worker")
        os.sched_setaffinity(0, all_processors)
        set_processor(1)
        for pid in (0, nova.pid, proxy.pid):
            go_first(pid)
        measure(proxy.port, seconds=1.0, interval=options.interval)  # warm
        results = []
        for name in options.acts or [*sorted(ACTS), ALL]:
            results.append(play(proxy, other, name, options))
            if proxy.complaints():
                raise SystemExit(f"the worker complained: {proxy.complaints()}")
        return results


def main() -> int:
    """Run the command; return its exit status: 1 when a request of the bystander failed."""
    parser = argparse.ArgumentParser(prog="worst_guest", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each act; 5")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each half of a round; 3")
    parser.add_argument("--interval", type=float, default=0.005, help="between requests; 0.005 s")
    parser.add_argument("--width", type=int, default=64, help="the hostile guest's tasks; 64")
    parser.add_argument("--rate-limit", type=float, default=0.0, help="requests/s of a port; none")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    known = [*sorted(ACTS), ALL]
    parser.add_argument("acts", nargs="*", metavar="ACT", help=f"of {', '.join(known)}; all")
    options = parser.parse_args()
    unknown = sorted(set(options.acts) - set(known))
    if unknown:
        parser.error(f"there is no act {unknown[0]!r}; there are {', '.join(known)}")
    results = run(options)
    if options.format == "json":
        json.dump([dataclasses.asdict(each) for each in results], sys.stdout, indent=1)
    else:
        Console(width=150).print(show(results))
    return 1 if any(each.failed for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
