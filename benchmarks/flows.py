"""`make bench-flows`: how the flow controller and the agent fare with thousands of ports.

README.md beside this file says what each figure is. Everything runs on a private Open vSwitch in
network namespaces of its own, which are removed at the end.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO, cast

from benchmarks.crowd import Crowd

from lab.load.flow_monitor import FlowMonitor
from lab.load.ovsdb_client import NewPort, OvsdbClient
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import LabError, run, wait_for
from lab.rig.usage import Usage
from ovs_metadata.flows.tables import COOKIE_MASK, COOKIE_PREFIX

FLOWS_PER_PORT = 10
"""What one port has."""

CONTROLLER = "ovs_metadata.flows.launcher"

OURS = f"cookie={COOKIE_PREFIX:#x}/{COOKIE_MASK:#x}"


@dataclass(frozen=True)
class Plug:
    """Milliseconds from the request to add the port until each stage is reached."""

    numbered: float
    flows: float
    served: float


@dataclass(frozen=True)
class Spread:
    """Median and 99th percentile (of few values: nearly the maximum), and the largest."""

    median: float
    p99: float
    largest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value; the percentile is the nearest rank's."""
        ordered = sorted(values)
        rank = min(len(ordered) - 1, -(-99 * len(ordered) // 100) - 1)
        return cls(statistics.median(ordered), ordered[rank], ordered[-1])

    def __str__(self) -> str:
        return f"{self.median:.0f} / {self.p99:.0f}"


@dataclass(frozen=True)
class Result:
    """All figures at one number of ports. Times of plugs in ms, others in s, memory in MiB."""

    ports: int
    flows: int
    numbered: Spread
    flows_in: Spread
    served: Spread
    record_last: Spread
    foreign_events: int
    hooks_after_deletion: float
    after_deletion: float
    ovs_ready: float
    resync: float
    served_again: float
    bundle: float
    controller: Usage
    agent: Usage
    plug_cpu_controller: float
    plug_cpu_agent: float
    resync_cpu_controller: float
    resync_cpu_agent: float
    idle_cpu_controller: float
    idle_cpu_agent: float


class Bench:
    """One hypervisor whose crowd of ports grows, and one real guest on it."""

    def __init__(self, hypervisor: Hypervisor, guest: Guest) -> None:
        self._hypervisor = hypervisor
        self._guest = guest
        self._asker = Asker(guest)
        self._client = OvsdbClient(hypervisor.ovs.connection, hypervisor.bridge)
        self._crowd = Crowd(hypervisor, self._client)
        self._plugged: set[int] = set()

    def close(self) -> None:
        """Drop the connection to OVSDB, and end the process in the guest."""
        self._client.close()
        self._asker.close()

    def grow(self, ports: int) -> None:
        """Have that many ports on the bridge, besides the guest's, each with its record."""
        self._crowd.grow(ports)

    def measure(self, plugs: int) -> Result:
        """Start the agent among the ports there are, and take all figures; it is stopped again."""
        hypervisor = self._hypervisor
        hypervisor.spawn("agent", *hypervisor.command("agent"))
        hypervisor.wait_until_serving(120)
        self._settle()
        with _monitored(hypervisor) as monitor:
            self._plug(monitor)  # everything is imported, resolved and warm after this one
            before = self._usages()
            timed = [self._plug(monitor) for _ in range(plugs)]
            after = self._usages()
            late = [self._plug(monitor, record_last=True) for _ in range(max(5, plugs // 4))]
            foreign = sum(1 for each in monitor.events if each.ofport not in self._plugged)
        idle = self._idle()
        expected = self._flow_count()
        hooks_after_deletion, after_deletion = self._delete_all(expected)
        resync_from = self._usages()
        ovs_ready, resync, served_again = self._restart(expected)
        resync_to = self._usages()
        result = Result(
            ports=self._crowd.ports,
            flows=expected,
            numbered=Spread.of(each.numbered for each in timed),
            flows_in=Spread.of(each.flows for each in timed),
            served=Spread.of(each.served for each in timed),
            record_last=Spread.of(each.served for each in late),
            foreign_events=foreign,
            hooks_after_deletion=hooks_after_deletion,
            after_deletion=after_deletion,
            ovs_ready=ovs_ready,
            resync=resync,
            served_again=served_again,
            bundle=0.0,
            controller=resync_to[0],
            agent=resync_to[1],
            plug_cpu_controller=(after[0].cpu - before[0].cpu) / plugs,
            plug_cpu_agent=(after[1].cpu - before[1].cpu) / plugs,
            resync_cpu_controller=resync_to[0].cpu - resync_from[0].cpu,
            resync_cpu_agent=resync_to[1].cpu - resync_from[1].cpu,
            idle_cpu_controller=idle[0],
            idle_cpu_agent=idle[1],
        )
        hypervisor.processes["agent"].stop()
        return Result(**{**vars(result), "bundle": self._bundle()})

    def _settle(self) -> None:
        """Wait until the crowd's flows are all there."""
        least = FLOWS_PER_PORT * self._crowd.ports
        wait_for(lambda: self._flow_count() > least, "the flows of the crowd", 120)

    def _flow_count(self, *, hooks: bool = False) -> int:
        hypervisor = self._hypervisor
        which = f"table=0,{OURS}" if hooks else OURS
        text = hypervisor.ovs.ofctl("dump-aggregate", hypervisor.bridge, which)
        return int(text.rpartition("flow_count=")[2])

    def _plug(self, monitor: FlowMonitor, *, record_last: bool = False) -> Plug:
        """Plug the guest, wait until it is served, unplug it, wait until its flows are gone.

        Counted from the request to add the port, or from the record when that comes last.
        """
        guest, hypervisor = self._guest, self._hypervisor
        if record_last:
            hypervisor.store.delete(guest.port_id)
        ids = {"iface-id": guest.port_id, "vm-uuid": guest.instance_id, "attached-mac": guest.mac}
        if not record_last:
            self._asker.go()
        plugged = self._client.plug(NewPort(guest.tap, ids))
        self._plugged.add(plugged.ofport)
        start = plugged.asked
        if record_last:
            # By then both have looked for the record, and at some time will again.
            time.sleep(random.uniform(0.4, 0.6))  # noqa: S311 - no secret
            self._asker.go()
            start = time.monotonic()
            hypervisor.put(guest)
        flows = monitor.wait_for_port(plugged.ofport, FLOWS_PER_PORT)
        answered = self._asker.answered()
        self._client.unplug(guest.tap)
        monitor.wait_for_port(plugged.ofport, FLOWS_PER_PORT, "DELETED")
        return Plug(
            *(
                1000 * (at - start)
                for at in (plugged.numbered, max(each.at for each in flows), answered)
            )
        )

    def _pids(self) -> tuple[int, int]:
        return self._hypervisor.children()[CONTROLLER], self._hypervisor.processes["agent"].pid

    def _usages(self) -> tuple[Usage, Usage]:
        controller, agent = self._pids()
        return Usage.of(controller), Usage.of(agent)

    def _idle(self, seconds: float = 5.0) -> tuple[float, float]:
        """Processor time each spends in a second in which nothing happens."""
        before = self._usages()
        time.sleep(seconds)
        after = self._usages()
        return (after[0].cpu - before[0].cpu) / seconds, (after[1].cpu - before[1].cpu) / seconds

    def _delete_all(self, expected: int) -> tuple[float, float]:
        """Seconds from an operator's del-flows until all our hooks are back, and all our flows."""
        hypervisor = self._hypervisor
        hooks = self._flow_count(hooks=True)
        start = time.monotonic()
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
        wait_for(lambda: self._flow_count(hooks=True) >= hooks, "the hooks after del-flows", 120)
        hooks_back = time.monotonic() - start
        wait_for(lambda: self._flow_count() >= expected, "the flows after del-flows", 120)
        return hooks_back, time.monotonic() - start

    def _restart(self, expected: int) -> tuple[float, float, float]:
        """Kill ovs-vswitchd and start it.

        Returns seconds: from its start until it answers OpenFlow, its ports being there; from then
        until all our flows are; from its start until the guest, plugged before, gets an answer.
        """
        hypervisor, guest = self._hypervisor, self._guest
        hypervisor.put(guest)
        ids = {"iface-id": guest.port_id, "vm-uuid": guest.instance_id}
        ofport = self._client.plug(NewPort(guest.tap, ids)).ofport
        hypervisor.wait_until_served(guest)
        hypervisor.ovs.kill_vswitchd()
        start = time.monotonic()
        hypervisor.ovs.start_vswitchd()
        wait_for(lambda: self._flow_count() >= 0, "ovs-vswitchd to speak OpenFlow", 120)
        ready = time.monotonic()
        # The guest asks only from here on: earlier answers do not count.
        wait_for(
            lambda: self._flow_count() >= expected + FLOWS_PER_PORT, "the flows after restart", 120
        )
        complete = time.monotonic()
        self._asker.go()
        answered = self._asker.answered()
        self._client.unplug(guest.tap)
        wait_for(lambda: not hypervisor.flows_of(ofport), "the guest's flows to go")
        return ready - start, complete - ready, answered - start

    def _bundle(self) -> float:
        """Seconds that `ovs-ofctl --bundle add-flows` takes for the same flows."""
        hypervisor = self._hypervisor
        path = hypervisor.root / "flows.txt"
        dump = hypervisor.ovs.ofctl("--no-stats dump-flows", hypervisor.bridge, OURS)
        path.write_text(
            "".join(f"{line.strip()}\n" for line in dump.splitlines() if "send_flow_rem" in line)
        )
        expected = self._flow_count()
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge, OURS)
        start = time.monotonic()
        run(
            *("ovs-ofctl", "-O", "OpenFlow13", "--bundle", "add-flows"),
            *(hypervisor.ovs.mgmt(hypervisor.bridge), path),
            timeout=120,
        )
        taken = time.monotonic() - start
        if self._flow_count() != expected:
            raise LabError(f"ovs-ofctl added {self._flow_count()} flows of {expected}")
        return taken


@contextmanager
def _monitored(hypervisor: Hypervisor) -> Iterator[FlowMonitor]:
    monitor = FlowMonitor(hypervisor.ovs, hypervisor.bridge)
    try:
        yield monitor
    finally:
        monitor.close()


class Asker:
    """A process in the guest that says when it is first answered (lab.load.first_byte)."""

    def __init__(self, guest: Guest) -> None:
        # An unanswered ARP request is repeated after a second, which is none of our time.
        guest.run("sysctl", "-qw", "net.ipv4.neigh.eth0.retrans_time_ms=5")
        self._process = subprocess.Popen(
            [
                *("ip", "netns", "exec", guest.name, sys.executable),
                str(Path(__file__).resolve().parents[1] / "tools/lab/load/first_byte.py"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def go(self) -> None:
        """Have it ask from now on, until it is answered."""
        stdin = cast("TextIO", self._process.stdin)
        stdin.write("go\n")
        stdin.flush()

    def answered(self) -> float:
        """When the first byte of an answer arrived (monotonic, seconds)."""
        line = self._hear()
        if line == "None":
            raise LabError("the guest was not served")
        return float(line)

    def _hear(self) -> str:
        line = cast("TextIO", self._process.stdout).readline().strip()
        if not line:
            raise LabError("the guest's process has ended")
        return line


_ROWS = (
    ("flows", lambda each: f"{each.flows}"),
    ("plug → OVSDB has the number, ms", lambda each: each.numbered),
    ("plug → flows in the switch, ms", lambda each: each.flows_in),
    ("plug → first byte, ms", lambda each: each.served),
    ("record after plug → first byte, ms", lambda each: each.record_last),
    ("flow events of other ports meanwhile", lambda each: each.foreign_events),
    ("del-flows → all hooks back, s", lambda each: f"{each.hooks_after_deletion:.2f}"),
    ("del-flows → all flows back, s", lambda each: f"{each.after_deletion:.2f}"),
    ("vswitchd start → its ports are back, s", lambda each: f"{each.ovs_ready:.2f}"),
    ("… → all flows back, s", lambda each: f"{each.resync:.2f}"),
    ("vswitchd start → guest answered, s", lambda each: f"{each.served_again:.2f}"),
    ("ovs-ofctl --bundle, same flows, s", lambda each: f"{each.bundle:.2f}"),
    ("controller memory, MiB", lambda each: f"{each.controller.rss:.0f}"),
    ("agent memory, MiB", lambda each: f"{each.agent.rss:.0f}"),
    ("controller CPU for one plug, ms", lambda each: f"{1000 * each.plug_cpu_controller:.0f}"),
    ("agent CPU for one plug, ms", lambda each: f"{1000 * each.plug_cpu_agent:.0f}"),
    ("controller CPU for a restart, s", lambda each: f"{each.resync_cpu_controller:.2f}"),
    ("agent CPU for a restart, s", lambda each: f"{each.resync_cpu_agent:.2f}"),
    ("controller CPU when idle, %", lambda each: f"{100 * each.idle_cpu_controller:.1f}"),
    ("agent CPU when idle, %", lambda each: f"{100 * each.idle_cpu_agent:.1f}"),
)


def table(results: list[Result]) -> str:
    """The results as a Markdown table; spreads are median / 99th percentile."""
    lines = [
        f"| ports | {' | '.join(str(each.ports) for each in results)} |",
        f"|---|{'---|' * len(results)}",
    ]
    lines += [
        f"| {name} | {' | '.join(str(value(each)) for each in results)} |" for name, value in _ROWS
    ]
    return "\n".join(lines)


def main() -> int:
    """Take the figures and print them."""
    parser = argparse.ArgumentParser(prog="benchmarks/flows.py", description=__doc__)
    parser.add_argument(
        "--ports", default="10,100,1000,4000", help="numbers of ports, rising, by commas"
    )
    parser.add_argument("--plugs", type=int, default=40, help="plugs at each number of ports")
    parser.add_argument("--json", type=Path, help="write all figures to this file, too")
    arguments = parser.parse_args()
    results: list[Result] = []
    with ExitStack() as stack:
        hypervisor = Hypervisor(f"bf{os.getpid()}")
        stack.callback(hypervisor.close)
        # Two patch ports of one bridge are a loop for whatever is flooded; so nothing is.
        hypervisor.start("fail_mode=secure")
        hypervisor.start_metadata_service()
        guest = hypervisor.add_guest("guest", plug=False)
        bench = Bench(hypervisor, guest)
        stack.callback(bench.close)
        for ports in map(int, arguments.ports.split(",")):
            bench.grow(ports)
            results.append(bench.measure(arguments.plugs))
            print(f"{ports} ports measured", file=sys.stderr)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in results], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
