"""The flow controller on os-ken under our launcher and, unchanged, on Ryu under ryu-manager."""

import pytest
from hypervisor_fixtures import Factory

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, wait_for


def _launcher(hypervisor: Hypervisor) -> Process:
    return hypervisor.spawn("flows", *hypervisor.command("flows"))


@pytest.mark.parametrize("start", [_launcher, Hypervisor.start_ryu_manager])
def test_the_life_of_two_guests(lab_hypervisor: Factory, start: object) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.start_metadata_service()
    hypervisor.configure(flows={"controller": "external"})
    assert callable(start)
    controller: Process = start(hypervisor)
    hypervisor.start_agent()
    twins = [hypervisor.add_guest("one"), hypervisor.add_guest("two")]
    for guest in twins:
        hypervisor.wait_until_served(guest)
    one, two = twins
    claim = f"X-Instance-ID: {two.instance_id}"
    assert one.identity("--header", claim) == one.instance_id
    assert two.identity() == two.instance_id
    one.run("ip", "addr", "add", "192.0.2.9/32", "dev", "eth0")
    assert one.identity("--interface", "192.0.2.9") == one.instance_id

    before = hypervisor.static_flows()
    hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
    wait_for(lambda: hypervisor.static_flows() == before, "the flows to come back")

    hypervisor.deploy(enabled=False)
    wait_for(lambda: not hypervisor.flows(), "the flows to go", 15)
    hypervisor.deploy(enabled=True)
    wait_for(lambda: hypervisor.static_flows() == before, "the flows to come back", 15)

    hypervisor.ovs.kill_vswitchd()
    hypervisor.ovs.start_vswitchd()
    wait_for(lambda: hypervisor.static_flows() == before, "the flows to come back", 15)
    wait_for(lambda: two.identity("--max-time", "1") == two.instance_id, "an answer", 15)

    ofport = hypervisor.ovs.ofport(one.tap)
    one.unplug(hypervisor.ovs)
    wait_for(lambda: not hypervisor.flows_of(ofport), "the flows of the port to go")
    assert two.identity() == two.instance_id
    assert controller.alive()
    controller.stop()
    assert two.identity() == two.instance_id
