"""`make bench-boot-storm`: many instances boot at once, and ask who they are.

200 guests behind one bridge ask what cloud-init asks, each request on a new connection, all at the
same time, through our flows and proxy and through Neutron's haproxy and metadata agent, of an
upstream that is as fast as Nova. README.md beside this file says what each figure is. Everything
runs in network namespaces of its own. The exit status is 1 if one of our guests saw an error.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict

from benchmarks.boot_storm_client import boot_all
from benchmarks.boot_storm_lab import (
    SPEEDS,
    Service,
    Speed,
    add_guests,
    machine_cpu,
    neutron,
    ours,
    upstream,
)
from benchmarks.boot_storm_report import Figures, figures, text

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import LabError, Process, free_port
from lab.rig.usage import Usage
from lab.upstream.cloud_init import BOOT_PATHS

SERVICES = ("neutron", "ours")
"""In this order: what asks Neutron must find none of our flows."""


def measure(
    name: str, service: Service, speed: Speed, nova: Process, guests: Sequence[Guest]
) -> Figures:
    """Have all guests boot, and take the figures of a service that runs."""

    def usage() -> dict[str, Usage]:
        others = {"upstream": Usage.of(nova.pid), "guests": Usage.of(os.getpid())}
        return service.usage() | others

    before, machine = usage(), machine_cpu()
    storm = boot_all(guests)
    return figures(
        service=name,
        upstream=speed.name,
        own_time=speed.own_time(len(guests), len(BOOT_PATHS)),
        storm=storm,
        before=before,
        after=usage(),
        machine_cpu=machine_cpu() - machine,
    )


def run(options: argparse.Namespace) -> list[Figures]:
    """Take all figures.

    Raises:
        LabError: something did not start, or ended.
    """
    measured = []
    hypervisor = Hypervisor(f"bs{os.getpid()}", nova=f"http://127.0.0.1:{free_port()}")
    try:
        hypervisor.start()
        _tell(f"making {options.guests} guests")
        guests = add_guests(hypervisor, options.guests)
        for name in options.services:
            _tell(f"starting {name}")
            with _service(name, hypervisor, guests, options) as service:
                for speed in options.speeds:
                    with upstream(hypervisor, speed) as nova:
                        measured.append(measure(name, service, speed, nova, guests))
                    _tell(f"{name}, upstream {speed.name}: {measured[-1].last_guest:.1f} s")
    except BaseException:
        if options.verbose:
            _tell(hypervisor.report())
        raise
    finally:
        _tell("taking everything down")
        hypervisor.close()
    return measured


def _service(
    name: str, hypervisor: Hypervisor, guests: Sequence[Guest], options: argparse.Namespace
) -> AbstractContextManager[Service]:
    if name == "neutron":
        return neutron(hypervisor, guests, options.neutron_threads)
    return ours(hypervisor, options.workers)


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    speeds = {speed.name: speed for speed in SPEEDS}
    parser = argparse.ArgumentParser(prog="benchmarks.boot_storm", description=__doc__)
    parser.add_argument("--guests", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="of our proxy; default: %(default)s")
    parser.add_argument(
        "--neutron-threads",
        type=int,
        default=4,
        help="requests Neutron's agent relays at once; its own default is half the number of "
        "processors; default: %(default)s",
    )
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=list(SERVICES))
    parser.add_argument("--speeds", nargs="+", choices=speeds, default=list(speeds), metavar="NAME")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.add_argument("--verbose", action="store_true", help="everything there is, if it fails")
    options = parser.parse_args(arguments)
    # 16 bits of addresses, and one bridge has its limits, too.
    if not 1 <= options.guests <= 2000:
        parser.error("--guests must be from 1 to 2000")
    options.speeds = [speeds[name] for name in options.speeds]
    options.services = [name for name in SERVICES if name in options.services]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 if one of our guests saw an error, 2 if it could not be run."""
    options = _options(arguments)
    # As with Ctrl-C: nothing stays behind.
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))
    try:
        measured = run(options)
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    if options.format == "json":
        print(json.dumps([asdict(each) for each in measured], indent=2))
    else:
        print(text(measured))
    return int(any(each.errors for each in measured if each.service == "ours"))


if __name__ == "__main__":
    sys.exit(main())
