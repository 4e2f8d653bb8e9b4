"""What the switch should have, look by look at a host that changes."""

import logging
from uuid import uuid4

import pytest

from ovs_metadata.flows.decision import Decision
from ovs_metadata.flows.meters import MeterRoom
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.join import HostPorts
from ovs_metadata.host.ovsdb import Bridge, MetadataPort, OvsdbRefused
from ovs_metadata.host.port_watcher import HostState

BRIDGE = Bridge("br-int", row=uuid4(), metadata_port=MetadataPort(1, ours=True, isolated=True))
HOST = HostState(BRIDGE, HostPorts())
METERS = MeterRoom(1 << 18)


class Preparation:
    """Notes which bridges are prepared; refuses while `refuses`."""

    def __init__(self) -> None:
        self.refuses = False
        self.asked: list[str] = []

    def __call__(self, bridge: Bridge) -> None:
        self.asked.append(bridge.name)
        if self.refuses:
            raise OvsdbRefused("it is read-only")


@pytest.fixture
def prepare() -> Preparation:
    return Preparation()


@pytest.fixture
def decision() -> Decision:
    return Decision(FlowOptions())


def test_nothing_is_decided_before_the_host_was_looked_at(decision: Decision) -> None:
    assert decision.flows is None
    assert decision.bridge is None


def test_a_bridge_is_prepared_once(decision: Decision, prepare: Preparation) -> None:
    for _ in range(3):
        assert decision.look(HOST, METERS, prepare)
    assert prepare.asked == ["br-int"]
    assert decision.bridge == BRIDGE


def test_a_refused_preparation_is_tried_again_though_nothing_has_changed(
    decision: Decision, prepare: Preparation, caplog: pytest.LogCaptureFixture
) -> None:
    prepare.refuses = True
    for _ in range(2):
        assert not decision.look(HOST, METERS, prepare)
    assert decision.flows, "flows do not wait for it"
    assert caplog.record_tuples[0][1:] == (
        logging.ERROR,
        "cannot prepare bridge br-int: it is read-only; trying again",
    )
    prepare.refuses = False
    for _ in range(2):
        assert decision.look(HOST, METERS, prepare)
    assert prepare.asked == ["br-int"] * 3


def test_flows_stay_the_same_object_where_nothing_changed(
    decision: Decision, prepare: Preparation
) -> None:
    decision.look(HOST, METERS, prepare)
    before = decision.flows
    decision.look(HOST, METERS, prepare)
    assert decision.flows is before


def test_after_a_time_without_metadata_everything_is_decided_again(
    decision: Decision, prepare: Preparation
) -> None:
    decision.look(HOST, METERS, prepare)
    before = decision.flows
    assert before
    decision.disable()
    assert decision.flows == {}
    assert decision.look(HOST, METERS, prepare)
    assert decision.flows == before
    assert prepare.asked == ["br-int"] * 2


def test_without_a_bridge_there_is_nothing_to_prepare(
    decision: Decision, prepare: Preparation
) -> None:
    assert decision.look(HostState(None, HostPorts()), METERS, prepare)
    assert prepare.asked == []
