"""Ports come, change and go, and come back: the switch's table is what it was before."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor

from lab.rig.hypervisor import Hypervisor
from ovs_metadata.flows import openflow
from ovs_metadata.flows.cleanup import remove_flows
from ovs_metadata.flows.conversation import Conversation
from ovs_metadata.flows.diff import diff
from ovs_metadata.flows.dump import dump_flows
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import Config, load

ONE = Port(2, "fa:16:3e:00:00:01", "10.0.0.5")
TWIN = Port(3, "fa:16:3e:00:00:01", "10.0.0.5")
CHANGED = Port(2, "fa:16:3e:00:00:99", "10.0.0.99")
NO_IPV4 = Port(65279, "fa:16:3e:00:00:03", None)
HIGHEST = Port(65279, "fa:16:3e:00:00:03", "192.0.2.7")
MANY = [
    Port(number, f"fa:16:3e:00:01:{number % 256:02x}", f"10.0.{number % 256}.1")
    for number in range(10, 210)
]

THEIRS = "cookie=0x77, priority=20000,tcp,in_port=2 actions=drop"

CYCLES: Mapping[str, tuple[Sequence[Port], Sequence[Port]]] = {
    "a record changes": ([ONE, TWIN], [CHANGED, TWIN]),
    "a port gets another ofport": ([ONE], [TWIN]),
    "an IPv4 address comes": ([NO_IPV4], [HIGHEST]),
    "a port vanishes": ([ONE, TWIN], [TWIN]),
    "all ports vanish": ([ONE, *MANY], []),
    "many ports come": ([ONE], [ONE, *MANY]),
    "everything changes": ([ONE, TWIN, *MANY[:100]], [CHANGED, NO_IPV4, *MANY[50:]]),
}


@pytest.fixture(scope="module")
def switch() -> Iterator[Hypervisor]:
    """A switch with one flow of somebody else's."""
    hypervisor = make_hypervisor()
    try:
        hypervisor.start()
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
        hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, THEIRS.replace(", ", ","))
        yield hypervisor
    finally:
        close_hypervisor(hypervisor)


class Controller:
    """Brings the switch from one set of ports to the next, by diffs alone."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._config: Config = load(hypervisor.config)
        self._installed: Mapping[FlowKey, Flow] = {}

    def apply(self, ports: Sequence[Port], metadata_ofport: int | None = 1) -> list[str]:
        """Send what differs; returns what the switch then has, as its own tool prints it."""
        desired = pipeline(self._config.flows, metadata_ofport, ports)
        changes = diff(self._installed, desired)
        offline, options = openflow.offline_datapath(), self._config.flows
        with Conversation(Path(self._config.management_socket)) as connection:
            connection.send(
                *(openflow.delete_message(offline, options, *each) for each in changes.delete),
                *(openflow.add_message(offline, options, flow) for flow in changes.add),
            )
            connection.send(openflow.barrier_message(offline))
            connection.receive(openflow.BARRIER_REPLY)
        self._installed = desired
        self.check()
        return self.table()

    def check(self) -> None:
        """The switch has just the flows it should have, and each does what it should."""
        dumped = dump_flows(self._config, self._installed)
        assert {flow.key for flow in dumped} == set(self._installed)
        assert len(dumped) == len(self._installed)
        assert all(flow.as_desired for flow in dumped)

    def table(self) -> list[str]:
        """All flows of the bridge, whoever's, without statistics."""
        text = self._hypervisor.ovs.ofctl("--no-stats dump-flows", self._hypervisor.bridge)
        return sorted(line.strip() for line in text.splitlines())

    def remove(self) -> None:
        """Remove every flow of ours."""
        remove_flows(self._config)
        self._installed = {}


@pytest.fixture
def controller(switch: Hypervisor) -> Iterator[Controller]:
    controller = Controller(switch)
    yield controller
    controller.remove()


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
    controller.remove()
    for ports in ([ONE], [ONE, *MANY], [TWIN, NO_IPV4], [CHANGED, HIGHEST, *MANY[20:40]]):
        last = controller.apply(ports)
    assert last == straight


def test_removal_leaves_the_flows_of_others(controller: Controller) -> None:
    controller.apply([ONE, TWIN])
    controller.remove()
    assert controller.table() == [THEIRS]
