"""Flows of others whose cookies look like ours stay as they are, whatever we do; ours all go."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypervisor_fixtures import Factory

from lab.rig.guest import Guest
from lab.rig.hypervisor import ROOT, Hypervisor
from lab.rig.process import run, wait_for
from lab.stand_ins.neutron_l2_agent import NeutronL2Agent
from ovs_metadata.cli.migrate.switchover import switch_host
from ovs_metadata.flows.cleanup import remove_flows
from ovs_metadata.flows.dump import DumpedFlow, dump_flows
from ovs_metadata.flows.tables import COOKIE_PREFIX, FIRST_PREFIX, cookie, ofport_of
from ovs_metadata.flows.withdrawal import withdraw_hooks
from ovs_metadata.host.config import Config, load

EARLIER = {1: "cookie=0xa9fe", 2: "cookie=0x4f564d440002"}
"""How the cookies of earlier generations begin."""

COLLIDING = {
    "our prefix": COOKIE_PREFIX | 0x4242_BEEF,
    "our prefix and generation": cookie() | 0xBEEF,
    "the first generation's prefix": FIRST_PREFIX | 0xBEEF,
    "the first generation's first 16 bits": 0xA9FE_4242_DEAD_BEEF,
}


@contextmanager
def _untouched(neutron: NeutronL2Agent, what: str) -> Iterator[None]:
    before = neutron.flows()
    yield
    assert neutron.flows() == before, what


def _of_ports(config: Config) -> list[DumpedFlow]:
    return [flow for flow in dump_flows(config, {}) if ofport_of(flow.cookie)]


def _audit(hypervisor: Hypervisor, ofport: int) -> None:
    """Make the controller find one of our flows that was not reported to it."""
    stray = f"cookie={cookie(ofport):#x},table=200,priority=300,tcp,in_port={ofport}"
    source = "dl_src=fa:16:3e:ff:ff:ff,nw_src=192.0.2.9"
    hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, f"{stray},{source} actions=drop")
    wait_for(lambda: "192.0.2.9" not in hypervisor.flows(), "the next audit", 10)


def _serve(hypervisor: Hypervisor) -> Guest:
    guest = hypervisor.add_guest("guest")
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id
    return guest


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", COLLIDING)
def test_flows_with_colliding_cookies_are_never_touched(lab_hypervisor: Factory, kind: str) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.configure(flows={"audit_interval": 1})
    hypervisor.start_metadata_service()
    neutron = NeutronL2Agent(hypervisor.ovs, hypervisor.bridge, COLLIDING[kind])
    neutron.set_up_bridge()
    for table in range(200, 206):
        neutron.add_elsewhere(table, "priority=7,udp,tp_dst=5353 actions=drop")
        neutron.add_elsewhere(table, "priority=8,tcp,tcp_flags=+rst,metadata=5 actions=drop")
    neutron.add_elsewhere(203, "priority=100,tcp,nw_dst=192.0.2.1,tp_dst=80 actions=drop")
    config = load(hypervisor.config)
    with _untouched(neutron, "start"):
        hypervisor.start_agent()
        guest = _serve(hypervisor)
    neutron.wire(guest, vlan=1)
    command = hypervisor.command("agent")[0].with_name("ovs-metadata")  # type: ignore[union-attr]
    ours = (command, "--config", hypervisor.config)
    inside = ("nsenter", f"--net=/run/netns/{hypervisor.namespace}")
    with _untouched(neutron, "audit, and flows and doctor"):
        _audit(hypervisor, hypervisor.ovs.ofport(guest.tap))
        assert "UNEXPECTED" not in run(*inside, *ours, "flows")
        run(*inside, *ours, "doctor", guest.port_id)
    with _untouched(neutron, "a port that goes"):
        guest.unplug(hypervisor.ovs)
        wait_for(lambda: not _of_ports(config), "the flows of the port to go")
    guest.plug(hypervisor.ovs, hypervisor.bridge)
    hypervisor.wait_until_served(guest)
    with _untouched(neutron, "migrate back"):
        run(*inside, *ours, "migrate", "back", timeout=60)
    assert dump_flows(config, {}) == []
    hypervisor.processes["agent"].stop()
    switch_host(hypervisor.store, hypervisor.prefix, enabled=True)
    hypervisor.start_agent()
    hypervisor.wait_until_served(guest)
    hypervisor.processes["agent"].stop()
    with _untouched(neutron, "letting pass"):
        withdraw_hooks(config, tuple)
    with _untouched(neutron, "cleanup"):
        run(*inside, *hypervisor.command("agent", "--cleanup"))
    assert dump_flows(config, {}) == []


@pytest.mark.parametrize("generation", EARLIER)
def test_no_flow_of_an_earlier_generation_is_left_behind(
    lab_hypervisor: Factory, generation: int
) -> None:
    """Among them are those for ofport 2 that pass, and what the switch had learned."""
    flows = ROOT / "tests" / "golden" / f"generation-{generation}.flows"
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.configure()
    config = load(hypervisor.config)
    ovs, bridge = hypervisor.ovs, hypervisor.bridge
    ovs.ofctl("del-flows", bridge)
    ovs.ofctl("add-flows", bridge, str(flows))
    assert len(dump_flows(config, {})) == len(flows.read_text().splitlines())
    remove_flows(config)
    assert "actions=" not in ovs.ofctl("dump-flows", bridge)
    ovs.ofctl("add-flows", bridge, str(flows))
    hypervisor.start_agent()
    wait_for(
        lambda: EARLIER[generation] not in ovs.ofctl("dump-flows", bridge),
        "the flows of the earlier generation to go",
    )
