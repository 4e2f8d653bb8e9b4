"""What goes over the wire means what the golden files say, to a real switch."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run
from ovs_metadata.flows import meter_wire, ofctl, wire
from ovs_metadata.flows.meters import REQUESTS, meters_used
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import FlowOptions


@pytest.fixture(scope="module")
def flows() -> Mapping[FlowKey, Flow]:
    ports = [Port(2, "fa:16:3e:00:00:01", hop_limit=1), Port(65279, "fa:16:3e:00:00:03")]
    return pipeline(FlowOptions(), 1, ports)


@pytest.fixture(scope="module")
def switch() -> Iterator[Hypervisor]:
    """A switch with nothing on it."""
    hypervisor = make_hypervisor()
    try:
        hypervisor.start()
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
        yield hypervisor
    finally:
        close_hypervisor(hypervisor)


def test_the_switchs_own_tool_reads_our_messages_as_we_print_them(
    flows: Mapping[FlowKey, Flow],
) -> None:
    for flow in flows.values():
        message = wire.add_message(FlowOptions(), flow)
        printed = run("ovs-ofctl", "ofp-print", message.hex())
        assert "***decode error" not in printed
        match, _, actions = ofctl.render(flow).partition("send_flow_rem ")[2].partition(" actions=")
        assert printed.rstrip().endswith(f"actions={actions}")
        for field in match.removeprefix(f"priority={flow.key.priority}").split(","):
            assert field in printed


def test_the_switchs_own_tool_reads_our_messages_about_meters() -> None:
    added = run("ovs-ofctl", "ofp-print", meter_wire.add_meter(100_002).hex())
    assert "ADD meter=100002 pktps burst stats bands=" in added
    assert f"type=drop rate={REQUESTS.rate} burst_size={REQUESTS.rate}" in added
    deleted = run("ovs-ofctl", "ofp-print", meter_wire.delete_meter(100_002).hex())
    assert "DEL meter=100002 " in deleted
    for request in (meter_wire.features_request(), meter_wire.meters_request()):
        assert "***decode error" not in run("ovs-ofctl", "ofp-print", request.hex())


def test_flows_read_as_text_come_back_as_the_same_text(
    switch: Hypervisor, flows: Mapping[FlowKey, Flow], tmp_path: Path
) -> None:
    text = ofctl.dump(flows.values())
    for number in sorted(meters_used(flows.values())):
        switch.ovs.ofctl("add-meter", switch.bridge, f"meter={number},pktps,band=type=drop,rate=1")
    file = tmp_path / "flows"
    file.write_text(text)
    switch.ovs.ofctl("add-flows", switch.bridge, str(file))
    dumped = switch.ovs.ofctl("--no-stats dump-flows", switch.bridge)
    assert sorted(dumped.splitlines()) == sorted(text.splitlines())
    switch.ovs.ofctl("del-flows", switch.bridge)
