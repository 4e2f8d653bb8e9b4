"""How long our flows are away, and what guests notice, when the real ovn-controller restarts.

For each release of OVN and each number of ports, each with its logical switch port: ovn-controller
ends in each of its ways and starts again, while a guest asks for its metadata, over four
connections at once. As root:

    PYTHONPATH=tools .venv/bin/python -m benchmarks.ovn
"""

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.crowd import Crowd

from lab.load.ovsdb_client import OvsdbClient
from lab.load.steady_load import Load
from lab.rig.guest import Guest
from lab.rig.hypervisor import OURS, Hypervisor
from lab.rig.process import run, wait_for
from lab.rig.running import Running
from lab.upstream.ovn import OvnCentral, OvnController
from lab.upstream.ovn_install import SUITES, install_ovn

PORTS = (100, 500)


@dataclass(frozen=True)
class Restart:
    """What one restart came to, in seconds and requests.

    away: the longest time for which a flow was missing. slowest: of the requests answered.
    """

    way: str
    away: float
    answered: int
    failed: int
    slowest: float

    def __str__(self) -> str:
        return (
            f"{self.way:<15} flows away {self.away:5.2f} s, {self.answered:>5} answered, "
            f"{self.failed} failed, slowest {self.slowest:.2f} s"
        )


class Watch(Running):
    """Counts our flows in the switch, again and again, as long as a `with` block lasts.

    `away` is the longest time so far that one was missing, `whole` whether all are there now.
    """

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._expected = self._count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.away = 0.0
        self.whole = True

    def start(self) -> None:
        """Begin to count."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()

    def _count(self) -> int:
        text = self._hypervisor.ovs.ofctl("dump-aggregate", self._hypervisor.bridge, OURS)
        return int(text.rpartition("flow_count=")[2])

    def _run(self) -> None:
        whole_at = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            self.whole = self._count() == self._expected
            if self.whole:
                whole_at = now
            self.away = max(self.away, now - whole_at)


def _ways(controller: OvnController) -> dict[str, Callable[[], None]]:
    return {
        "exit --restart": lambda: controller.exit("--restart"),
        "exit": controller.exit,
        "kill -9": controller.kill,
    }


def restarts(hypervisor: Hypervisor, controller: OvnController, guest: Guest) -> Iterator[Restart]:
    """Restart ovn-controller in each way."""
    for way, end in _ways(controller).items():
        load = Load(guest, hypervisor.root)
        with Watch(hypervisor) as watch:
            end()
            controller.start_again()
            wait_for(lambda: watch.whole, "our flows to be back", 60)
        summary = load.stop()
        if summary.strangers:
            raise AssertionError(f"{summary.strangers} answers were for other guests")
        yield Restart(way, watch.away, summary.answered, summary.failed, summary.longest)


def measure(suite: str, ports: list[int]) -> None:
    """Measure one release with ever more ports, and print what each restart came to."""
    installation = install_ovn(suite)
    version = run(installation.program("ovn-controller"), "--version").splitlines()[0]
    with tempfile.TemporaryDirectory(prefix="ovs-metadata-bench-") as directory:
        hypervisor = Hypervisor(
            f"bo{os.getpid()}", root=Path(directory, "host"), openvswitch=installation.openvswitch
        )
        try:
            hypervisor.start()
            hypervisor.start_metadata_service()
            with OvnCentral(installation, Path(directory, "ovn")) as central:
                controller = OvnController(central, hypervisor)
                controller.start()
                hypervisor.start_agent()
                _measure(version, ports, hypervisor, central, controller)
        finally:
            hypervisor.close()


def _measure(
    version: str,
    ports: list[int],
    hypervisor: Hypervisor,
    central: OvnCentral,
    controller: OvnController,
) -> None:
    guest = hypervisor.add_guest("guest")
    central.add_port(guest)
    client = OvsdbClient(hypervisor.ovs.connection, hypervisor.bridge)
    with contextlib.closing(client):
        crowd = Crowd(hypervisor, client, internal=True)
        for number in ports:
            before = crowd.ports
            crowd.grow(number - 1)  # the guest has a port, too
            central.add_records(crowd.records[before:])
            central.wait_for_controllers()
            last = hypervisor.ovs.ofport(f"crowd{crowd.ports - 1}")
            wait_for(lambda: hypervisor.flows_of(last), "the crowd's flows", 60)  # noqa: B023
            print(f"{version}, {number} ports:", flush=True)
            for each in restarts(hypervisor, controller, guest):
                print(f"    {each}", flush=True)


def main() -> None:
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(description="What a restart of ovn-controller costs guests.")
    parser.add_argument("--ports", type=int, nargs="+", default=list(PORTS))
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=list(SUITES))
    arguments = parser.parse_args()
    for suite in arguments.suites:
        measure(suite, sorted(arguments.ports))


if __name__ == "__main__":
    main()
