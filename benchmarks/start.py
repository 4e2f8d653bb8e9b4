"""`make bench-start`: how long the agent takes to serve, and a command to print.

README.md beside this file says what each figure is. Everything runs on a private Open vSwitch in
network namespaces of its own, which are removed at the end.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.crowd import Crowd
from benchmarks.flows import Asker

from lab.load.ovsdb_client import OvsdbClient
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import LabError

HELP = (
    "",
    "agent list",
    "cleanup ovn-namespaces",
    "doctor",
    "flows",
    "migrate enable",
    "port list",
    "port show",
    "report",
    "status",
    "trace",
)
"""Commands of `ovs-metadata` whose `--help` is measured."""

LOOKS = ("status", "port list --here", "port list", "flows", "doctor")
"""Commands of `ovs-metadata` that are run on the hypervisor."""


@dataclass(frozen=True)
class Cost:
    """Medians in seconds: by the clock, and processor time."""

    elapsed: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.elapsed:.2f} | {self.cpu:.2f}"


def cost(command: Sequence[str | Path], rounds: int) -> Cost:
    """What a command costs when it is run again and again.

    Raises:
        LabError: it has printed nothing.
    """
    elapsed, cpu = [], []
    for _ in range(rounds):
        before, start = _children_cpu(), time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        elapsed.append(time.monotonic() - start)
        cpu.append(_children_cpu() - before)
        if not done.stdout:  # its exit status may be a verdict about the host
            raise LabError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return Cost(statistics.median(elapsed), statistics.median(cpu))


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def start_of_agent(hypervisor: Hypervisor, asker: Asker) -> float:
    """Seconds from the agent's exec until a guest, which asks all the time, has an answer.

    The agent is stopped before, and whatever it left stays: the metadata port and the flows.
    """
    hypervisor.processes["agent"].stop()
    start = time.monotonic()
    hypervisor.spawn("agent", *hypervisor.command("agent"))
    asker.go()
    return asker.answered() - start


def main() -> int:
    """Take the figures and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--ports", type=int, default=50, help="ports besides the guest's")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken")
    arguments = parser.parse_args()
    command = Path(sys.executable).with_name("ovs-metadata")
    lines = ["| command | elapsed, s | CPU, s |", "|---|---|---|"]
    for words in HELP:
        spent = cost([command, *words.split(), "--help"], arguments.rounds)
        lines.append(f"| `{' '.join(f'{words} --help'.split())}` | {spent} |")
    with ExitStack() as stack:
        hypervisor = Hypervisor(f"bs{os.getpid()}")
        stack.callback(hypervisor.close)
        # Two patch ports of one bridge are a loop for whatever is flooded; so nothing is.
        hypervisor.start("fail_mode=secure")
        hypervisor.start_metadata_service()
        client = stack.enter_context(closing(OvsdbClient(hypervisor.ovs.connection, "br-int")))
        Crowd(hypervisor, client).grow(arguments.ports)
        guest = hypervisor.add_guest("guest")
        hypervisor.start_agent()
        hypervisor.wait_until_served(guest)
        with closing(Asker(guest)) as asker:
            taken = [start_of_agent(hypervisor, asker) for _ in range(arguments.rounds)]
        # Within the hypervisor's namespace, as its operator is.
        inside: tuple[str | Path, ...] = ("nsenter", f"--net=/run/netns/{hypervisor.namespace}")
        for words in LOOKS:
            whole = [*inside, command, "--config", hypervisor.config, *words.split()]
            lines.append(f"| `{words}` | {cost(whole, arguments.rounds)} |")
    print(f"agent, exec → a guest is answered, {arguments.ports} ports: ", end="")
    print(f"{statistics.median(taken):.2f} s, slowest {max(taken):.2f} s")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
