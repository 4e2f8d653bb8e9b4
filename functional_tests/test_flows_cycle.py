"""Ports come, change and go, and come back: the switch's table is what it was before."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor

from lab.rig.hypervisor import ROOT, Hypervisor
from lab.upstream.ryu_install import ryu_python
from ovs_metadata.flows.pipeline import Port

_RYU_FIRST = """
import eventlet.wsgi
eventlet.wsgi.ALREADY_HANDLED = object()
import ryu.base.app_manager
"""
_RUN = "import flow_cycle, sys; flow_cycle.main(sys.argv[1])"

ONE = Port(2, "fa:16:3e:00:00:01")
TWIN = Port(3, "fa:16:3e:00:00:01")
CHANGED = Port(2, "fa:16:3e:00:00:99")
HIGHEST = Port(65279, "fa:16:3e:00:00:03")
MANY = [Port(number, f"fa:16:3e:00:01:{number % 256:02x}") for number in range(10, 210)]

THEIRS = "cookie=0x77, priority=20000,tcp,in_port=2 actions=drop"

CYCLES: Mapping[str, tuple[Sequence[Port], Sequence[Port]]] = {
    "a record changes": ([ONE, TWIN], [CHANGED, TWIN]),
    "a port gets another ofport": ([ONE], [TWIN]),
    "a port vanishes": ([ONE, TWIN], [TWIN]),
    "all ports vanish": ([ONE, *MANY], []),
    "many ports come": ([ONE], [ONE, *MANY]),
    "everything changes": ([ONE, TWIN, *MANY[:100]], [CHANGED, HIGHEST, *MANY[50:]]),
}


@pytest.fixture(scope="module")
def switch() -> Iterator[Hypervisor]:
    """A switch with one flow of another program."""
    hypervisor = make_hypervisor()
    try:
        hypervisor.start()
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
        hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, THEIRS.replace(", ", ","))
        yield hypervisor
    finally:
        close_hypervisor(hypervisor)


class Controller:
    """`flow_cycle` in a process, with one of the two libraries."""

    def __init__(self, hypervisor: Hypervisor, library: str) -> None:
        self._hypervisor = hypervisor
        self._library = library
        python = ryu_python() if library == "ryu" else Path(sys.executable)
        program = f"{_RYU_FIRST if library == 'ryu' else ''}{_RUN}"
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", "-c", program, str(hypervisor.config)],
            env={**os.environ, "PYTHONPATH": f"{ROOT}/src:{Path(__file__).parent}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def apply(self, ports: Sequence[Port], metadata_ofport: int | None = 1) -> list[str]:
        """Have the switch serve these; returns what it then has, as its own tool prints it."""
        host = [metadata_ofport, [(port.ofport, port.mac) for port in ports]]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(host) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == self._library
        return self.table()

    def table(self) -> list[str]:
        """All flows of the bridge, of all programs, without statistics."""
        text = self._hypervisor.ovs.ofctl("--no-stats dump-flows", self._hypervisor.bridge)
        return sorted(line.strip() for line in text.splitlines())

    def close(self) -> None:
        """Remove all our flows."""
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0


@pytest.fixture(params=["os_ken", "ryu"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def controller(switch: Hypervisor, library: str) -> Iterator[Controller]:
    with contextlib.closing(Controller(switch, library)) as controller:
        yield controller


@pytest.mark.parametrize("cycle", CYCLES)
def test_there_and_back_again_is_the_same_table(controller: Controller, cycle: str) -> None:
    first, second = CYCLES[cycle]
    before = controller.apply(first)
    between = controller.apply(second)
    assert between != before
    assert controller.apply(first) == before
    assert controller.apply(second) == between
    assert THEIRS in between


def test_without_a_metadata_port_only_the_flows_of_others_are_left(controller: Controller) -> None:
    before = controller.apply([ONE, TWIN])
    assert controller.apply([ONE, TWIN], metadata_ofport=None) == [THEIRS]
    assert controller.apply([ONE, TWIN]) == before


def test_the_metadata_ports_new_number_reaches_every_flow(controller: Controller) -> None:
    before = controller.apply([ONE, TWIN])
    moved = controller.apply([ONE, TWIN], metadata_ofport=77)
    assert not any(",in_port=1 " in flow or flow.endswith("output:1") for flow in moved)
    assert controller.apply([ONE, TWIN]) == before


def test_the_way_does_not_matter(controller: Controller) -> None:
    straight = controller.apply([CHANGED, HIGHEST, *MANY[20:40]])
    for ports in ([ONE], [ONE, *MANY], [TWIN, HIGHEST], [CHANGED, HIGHEST, *MANY[20:40]]):
        last = controller.apply(ports)
    assert last == straight


def test_removal_leaves_the_flows_of_others(switch: Hypervisor, library: str) -> None:
    controller = Controller(switch, library)
    controller.apply([ONE, TWIN])
    controller.close()
    assert controller.table() == [THEIRS]
