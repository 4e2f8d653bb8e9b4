"""Ports come, change and go, and come back: the switch's table is what it was before."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor

from lab.flow_changes import changes_between
from lab.rig.hypervisor import Hypervisor
from ovs_metadata.flows import meter_wire, wire
from ovs_metadata.flows.cleanup import remove_flows
from ovs_metadata.flows.connection import OpenFlowConnection
from ovs_metadata.flows.dump import dump_flows, dump_meters
from ovs_metadata.flows.meters import meters_used
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.reported import DumpedStats
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import load

ONE = Port(2, "fa:16:3e:00:00:01")
TWIN = Port(3, "fa:16:3e:00:00:01")
CHANGED = Port(2, "fa:16:3e:00:00:99")
UNMETERED = Port(2, "fa:16:3e:00:00:01", metered=False)
HIGHEST = Port(65279, "fa:16:3e:00:00:03")
MANY = [Port(number, f"fa:16:3e:00:01:{number % 256:02x}") for number in range(10, 210)]

THEIRS = "cookie=0x77, priority=20000,tcp,in_port=2 actions=drop"

CYCLES: Mapping[str, tuple[Sequence[Port], Sequence[Port]]] = {
    "a record changes": ([ONE, TWIN], [CHANGED, TWIN]),
    "a port gets another ofport": ([ONE], [TWIN]),
    "a port's meter number is another program's now": ([ONE, TWIN], [UNMETERED, TWIN]),
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
    """Brings the switch from one set of ports to the next, by differences alone."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._config = load(hypervisor.config)
        self._installed: Mapping[FlowKey, Flow] = {}

    def apply(self, ports: Sequence[Port], metadata_ofport: int | None = 1) -> list[str]:
        """Have the switch serve these; returns what it then has, as its own tool prints it."""
        options = self._config.flows
        desired = pipeline(options, metadata_ofport, ports)
        deleted, added = changes_between(self._installed, desired)
        before, after = meters_used(self._installed.values()), meters_used(desired.values())
        with OpenFlowConnection(self._config.management_socket) as switch:
            switch.send(
                *map(meter_wire.add_meter, after - before),
                *(wire.delete_message(options, flow.key, flow.cookie) for flow in deleted),
                *(wire.add_message(options, flow) for flow in added),
                *map(meter_wire.delete_meter, before - after),
            )
            switch.send(wire.barrier_message())
            switch.receive(wire.BARRIER_REPLY)
            switch.send(wire.dump_message())
            there, more = set[bytes](), True
            while more:
                entries, more = wire.entries_of(switch.receive(wire.MULTIPART_REPLY))
                there |= {DumpedStats(entry).message for entry in entries}
        assert there == {wire.add_message(options, flow) for flow in desired.values()}
        self._installed = desired
        dumped = dump_flows(self._config, desired)
        assert {flow.key for flow in dumped} == set(desired)
        assert len(dumped) == len(desired)
        assert all(flow.as_desired for flow in dumped)
        assert {meter.number for meter in dump_meters(self._config)} == after
        return self.table()

    def table(self) -> list[str]:
        """All flows of the bridge, also those of other programs, without statistics."""
        text = self._hypervisor.ovs.ofctl("--no-stats dump-flows", self._hypervisor.bridge)
        return sorted(line.strip() for line in text.splitlines())

    def close(self) -> None:
        """Remove all our flows."""
        remove_flows(self._config)


@pytest.fixture
def controller(switch: Hypervisor) -> Iterator[Controller]:
    with contextlib.closing(Controller(switch)) as controller:
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


def test_removal_leaves_the_flows_of_others(switch: Hypervisor) -> None:
    controller = Controller(switch)
    controller.apply([ONE, TWIN])
    controller.close()
    assert controller.table() == [THEIRS]
