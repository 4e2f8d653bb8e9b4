"""`make bench-footprint`: memory and idle CPU of the agent, the controller and the workers.

README.md beside this file says what each figure is. Everything runs on a private Open vSwitch in
network namespaces of its own, which are removed at the end.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from benchmarks.crowd import Crowd

from lab.load.ovsdb_client import OvsdbClient
from lab.rig.hypervisor import OURS, Hypervisor
from lab.rig.process import wait_for
from lab.rig.running import Running
from lab.rig.southbound import Southbound
from lab.rig.zookeeper import ZooKeeper
from lab.upstream.ovn_install import SUITES, install_ovn
from ovs_metadata.store.record import PortRecord

FLOWS_PER_PORT = 10

SETTLING = 12.0
"""Seconds after a change until a process has done what it put off, and its caches are filled."""

_NAMES = {"launcher": "controller", "main": "worker"}
"""Last part of a child's module → its name here."""


@dataclass(frozen=True)
class Footprint:
    """One process: memory in MiB, and by the second: CPU in ms, and how often it woke up."""

    pss: float
    private: float
    cpu: float
    wakes: float

    def __add__(self, other: "Footprint") -> "Footprint":
        return Footprint(
            self.pss + other.pss,
            self.private + other.private,
            self.cpu + other.cpu,
            self.wakes + other.wakes,
        )


Case = Mapping[str, Footprint]
"""The processes at one number of ports, by name, and `all`."""


def processes(hypervisor: Hypervisor) -> dict[str, int]:
    """Name → process id of the agent, the controller and the workers."""
    agent = hypervisor.processes["agent"].pid
    found = {"agent": agent}
    for number, pid in enumerate(Path(f"/proc/{agent}/task/{agent}/children").read_text().split()):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        module = next((word for word in words if word.startswith("ovs_metadata.")), "")
        name = _NAMES.get(module.rpartition(".")[2], "other")
        found[name if name not in found else f"{name} {number}"] = int(pid)
    return found


def memory(pid: int) -> tuple[float, float]:
    """PSS and private memory of a process in MiB (smaps_rollup, proc(5))."""
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        values[name] = int(value.split()[0]) / 1024
    return values["Pss"], values["Private_Clean"] + values["Private_Dirty"]


def work(pid: int) -> tuple[float, int]:
    """CPU in ms of all threads, to the microsecond, and how often they went to sleep."""
    nanoseconds = switches = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((thread / "schedstat").read_text().split()[0])
        status = (thread / "status").read_text()
        switches += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return nanoseconds / 1e6, switches


def measure(hypervisor: Hypervisor, seconds: float) -> Case:
    """The processes while nothing happens for some seconds."""
    pids = processes(hypervisor)
    before = {name: work(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    found = {}
    for name, pid in pids.items():
        cpu, switches = work(pid)
        found[name] = Footprint(
            *memory(pid),
            (cpu - before[name][0]) / seconds,
            (switches - before[name][1]) / seconds,
        )
    total = Footprint(0, 0, 0, 0)
    for each in found.values():
        total += each
    return {**found, "all": total}


class OwnPorts(Running):
    """A southbound database with ports of this hypervisor, and some of others.

    Each hundred of the others has 500 logical flows.
    """

    def __init__(self, hypervisor: Hypervisor, others: int) -> None:
        self._hypervisor = hypervisor
        self._others = others
        root = hypervisor.root / "southbound"
        self._database = Southbound(root, install_ovn(SUITES[0]).schema("sb"))
        self._remote = f"unix:{root}/sb.sock"
        self._here = ""

    def start(self) -> None:
        """Serve it, and have the hypervisor's OVSDB say where it is."""
        self._database.start()
        self._here = self._database.add_chassis(self._hypervisor.prefix)
        there = self._database.add_chassis("other")
        for begin in range(0, self._others, 100):
            number = min(100, self._others - begin)
            self._database.add_ports([str(uuid4()) for _ in range(number)], there)
            self._database.add_flows(5 * number)
        ids = {"system-id": self._hypervisor.prefix, "ovn-remote": self._remote}
        self._hypervisor.ovs.vsctl(
            *("set", "open_vswitch", "."),
            *(f'external_ids:{key}="{value}"' for key, value in ids.items()),
        )

    def add(self, records: Iterable[PortRecord]) -> None:
        """Have the hypervisor's ports there."""
        for record in records:
            self._database.add_ports([record.port_id], self._here, device_id=record.device_id)

    def stop(self) -> None:
        """End its server."""
        self._database.stop()


def cases(store: str, ports: list[int], workers: int, seconds: float) -> Iterator[Case]:
    """Start a hypervisor, and measure at each number of ports."""
    with ExitStack() as stack:
        zookeeper = stack.enter_context(ZooKeeper()) if store == "zookeeper" else None
        hypervisor = Hypervisor(f"fp{os.getpid()}")
        stack.callback(hypervisor.close)
        # Two patch ports of one bridge are a loop for whatever is flooded; so nothing is.
        hypervisor.start("fail_mode=secure")
        if zookeeper is not None:
            stack.enter_context(hypervisor.use_zookeeper(zookeeper))
        southbound = None
        if store.startswith("ovn"):
            southbound = OwnPorts(hypervisor, int(store.partition(":")[2] or 0))
            stack.enter_context(southbound)
        hypervisor.configure(
            proxy={"workers": workers}, store={"records": "ovn" if southbound else "store"}
        )
        client = stack.enter_context(closing(OvsdbClient(hypervisor.ovs.connection, "br-int")))
        crowd = Crowd(hypervisor, client)
        agent = hypervisor.start_agent()
        stack.callback(agent.stop)
        for number in ports:
            known = crowd.ports
            crowd.grow(number)
            if southbound is not None:
                southbound.add(crowd.records[known:])
            wait_for(lambda: _flows(hypervisor) > FLOWS_PER_PORT * crowd.ports, "the flows", 120)
            time.sleep(SETTLING)
            yield measure(hypervisor, seconds)


def _flows(hypervisor: Hypervisor) -> int:
    text = hypervisor.ovs.ofctl("dump-aggregate", hypervisor.bridge, OURS)
    return int(text.rpartition("flow_count=")[2])


def table(results: Mapping[str, Case], before: Mapping[str, Case]) -> str:
    """A Markdown table; with `before`, each figure is followed by its share of the earlier one."""
    lines = ["| case | process | PSS, MiB | private, MiB | idle CPU, ms/s | wakes/s |"]
    lines.append("|---|---|---|---|---|---|")
    for case, found in results.items():
        for name, each in found.items():
            earlier = before.get(case, {}).get(name)
            cells = [
                f"{value:.1f}" + (f" ({value / old:.2f})" if earlier and old else "")
                for value, old in zip(_values(each), _values(earlier or each), strict=True)
            ]
            lines.append(f"| {case} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(each: Footprint) -> tuple[float, ...]:
    return each.pss, each.private, each.cpu, each.wakes


def _read(path: Path) -> dict[str, Case]:
    return {
        case: {name: Footprint(**values) for name, values in found.items()}
        for case, found in json.loads(path.read_text()).items()
    }


def main() -> int:
    """Take the figures and print them."""
    parser = argparse.ArgumentParser(prog="benchmarks.footprint", description=__doc__)
    parser.add_argument("--ports", default="0,50,1000", help="numbers of ports, rising, by commas")
    parser.add_argument(
        "--stores",
        default="directory,zookeeper",
        help="by commas; `ovn` has records from a southbound database, "
        "`ovn:N` from one with N ports of others",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="of idling, at each number")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--before", type=Path, help="a file of --json to compare with")
    arguments = parser.parse_args()
    ports = [int(each) for each in arguments.ports.split(",")]
    results: dict[str, Case] = {}
    for store in arguments.stores.split(","):
        found = cases(store, ports, arguments.workers, arguments.seconds)
        for number, case in zip(ports, found, strict=True):
            results[f"{store}, {number} ports"] = case
            print(f"{store}: {number} ports measured", file=sys.stderr)
    print(table(results, _read(arguments.before) if arguments.before else {}))
    if arguments.json:
        document = {
            case: {name: asdict(each) for name, each in found.items()}
            for case, found in results.items()
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
