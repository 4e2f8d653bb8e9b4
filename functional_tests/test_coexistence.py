"""Others who own the bridge sweep it, and guests are served again within a second."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypervisor_fixtures import Factory, on_both_hosts

from lab.load.guest_traffic import GuestTraffic
from lab.load.recovery import time_to_recover
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import wait_for
from lab.stand_ins.neutron_l2_agent import CONTROLLER, DEAD_VLAN, NeutronL2Agent
from lab.stand_ins.ovn_controller import OvnController

pytestmark = on_both_hosts

WITHIN = 1.0
"""Seconds within which guests are to be served again, on a machine that does nothing else. On
others it is before the next audit, as `time_to_recover` has it."""


def _start(hypervisor: Hypervisor, *bridge_settings: str) -> list[Guest]:
    """Start everything, with two guests on one network."""
    hypervisor.start(*bridge_settings)
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    guests = [
        hypervisor.add_guest("one", mac="fa:16:3e:00:00:01", address="10.0.0.5/24"),
        hypervisor.add_guest("two", mac="fa:16:3e:00:00:02", address="10.0.0.6/24"),
    ]
    for guest in guests:
        hypervisor.wait_until_served(guest)
        assert guest.identity() == guest.instance_id
    return guests


def _ask_from_elsewhere(guest: Guest) -> None:
    """From an address that no record tells of."""
    guest.run("ip", "addr", "replace", "10.0.0.250/32", "dev", "eth0")
    assert guest.identity("--interface", "10.0.0.250") == guest.instance_id


def _reach_each_other(guests: Sequence[Guest]) -> None:
    """The bridge does what its owner wants it for."""
    with GuestTraffic(*guests):
        pass  # it has begun, and goes on for some rounds


@pytest.mark.parametrize(
    ("drop_flows", "all_tables"),
    [(False, False), (False, True), (True, False)],
    ids=["sweeps its tables", "sweeps all tables", "drop_flows_on_start"],
)
def test_neutrons_l2_agent_starts_and_starts_again(
    lab_hypervisor: Factory, drop_flows: bool, all_tables: bool
) -> None:
    hypervisor = lab_hypervisor()
    guests = _start(hypervisor)
    flows = hypervisor.static_flows()
    ovs, bridge = hypervisor.ovs, hypervisor.bridge
    for _start_number in range(2):
        _ask_from_elsewhere(guests[0])
        neutron = NeutronL2Agent(ovs, bridge)
        neutron.set_up_bridge(drop_flows=drop_flows)
        time_to_recover(hypervisor, guests, flows)
        for guest in guests:
            neutron.wire(guest, vlan=1)
        installed = neutron.flows()
        _ask_from_elsewhere(guests[0])
        neutron.sweep(all_tables=all_tables)
        time_to_recover(hypervisor, guests, flows)
        _ask_from_elsewhere(guests[0])
        assert neutron.flows() == installed
        _reach_each_other(guests)
    # What it set on the bridge stays as it set it.
    assert ovs.vsctl("get-controller", bridge).split() == [CONTROLLER]
    assert ovs.vsctl("get-fail-mode", bridge).strip() == "secure"
    assert ovs.vsctl("get", "controller", bridge, "inactivity_probe").strip() == "10000"
    assert ovs.vsctl("get", "bridge", bridge, "other_config:disable-in-band").strip() == '"true"'
    protocols = ovs.vsctl("get", "bridge", bridge, "protocols")
    assert all(f"OpenFlow{version}" in protocols for version in (10, 13, 14))


def test_the_controller_list_is_overwritten_and_emptied(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    guests = _start(hypervisor, "fail_mode=secure")
    flows = hypervisor.static_flows()
    vsctl, bridge = hypervisor.ovs.vsctl, hypervisor.bridge
    for change in (
        ("set-controller", bridge, CONTROLLER),
        ("set-controller", bridge, "tcp:127.0.0.1:6653"),
        ("del-controller", bridge),
    ):
        vsctl(*change)
        time_to_recover(hypervisor, guests, flows)
    assert vsctl("get-controller", bridge) == ""


def test_the_protocols_are_overwritten(lab_hypervisor: Factory) -> None:
    """Without OpenFlow 1.3 among them: others need not know of us, so we add it again."""
    hypervisor = lab_hypervisor()
    guests = _start(hypervisor)
    flows = hypervisor.static_flows()
    vsctl, bridge = hypervisor.ovs.vsctl, hypervisor.bridge
    vsctl("set", "bridge", bridge, "protocols=OpenFlow10,OpenFlow15")
    wait_for(
        lambda: "OpenFlow13" in vsctl("get", "bridge", bridge, "protocols"), "OpenFlow 1.3", 1.0
    )
    # ovs-vswitchd may not have read that yet, and refuses our version.
    wait_for(lambda: hypervisor.ovs.ofctl("dump-flows", bridge), "the bridge to speak it")
    hypervisor.ovs.ofctl("del-flows", bridge)
    time_to_recover(hypervisor, guests, flows)
    assert vsctl("get", "bridge", bridge, "protocols").strip() == (
        "[OpenFlow10, OpenFlow13, OpenFlow15]"
    )


def test_a_port_gets_its_hooks_when_neutron_has_wired_it(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    guests = _start(hypervisor)
    neutron = NeutronL2Agent(hypervisor.ovs, hypervisor.bridge)
    neutron.set_up_bridge()
    for guest in guests:
        neutron.wire(guest, vlan=1)
    late = hypervisor.add_guest("late", plug=False, mac="fa:16:3e:00:00:03", address="10.0.0.7/24")
    ofport = late.plug(hypervisor.ovs, hypervisor.bridge)
    hypervisor.ovs.vsctl("set", "port", late.tap, f"tag={DEAD_VLAN}")
    wait_for(lambda: not hypervisor.flows_of(ofport), "the hooks of a dead port to go")
    assert late.identity("--max-time", "0.5") is None
    neutron.wire(late, vlan=2)
    hypervisor.wait_until_served(late)
    assert late.identity() == late.instance_id
    assert guests[0].identity() == guests[0].instance_id


def test_ovn_controller_connects_again(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    guests = _start(hypervisor)
    flows = hypervisor.static_flows()
    ovn = OvnController(hypervisor.ovs, hypervisor.bridge, guests)
    ovn.set_up_bridge()
    for _connect in range(3):
        ovn.connect()
        installed, others = ovn.flows(), ovn.groups_and_meters()
        time_to_recover(hypervisor, guests, flows)
        assert ovn.flows() == installed
        assert ovn.groups_and_meters() == others
        assert len(others) == 3  # a group, a meter, and the meter's band
        _ask_from_elsewhere(guests[0])
        _reach_each_other(guests)
    assert hypervisor.ovs.vsctl("get-controller", hypervisor.bridge) == ""


@pytest.mark.alone
def test_guests_are_served_again_within_a_second(lab_hypervisor: Factory) -> None:
    """The bridge's owner deletes flows when it starts, when it connects, or by hand."""
    hypervisor = lab_hypervisor()
    guests = _start(hypervisor)
    flows = hypervisor.static_flows()
    neutron = NeutronL2Agent(hypervisor.ovs, hypervisor.bridge)
    ovs, bridge = hypervisor.ovs, hypervisor.bridge
    acts: dict[str, Callable[[], object]] = {
        "its agent starts": lambda: neutron.set_up_bridge(drop_flows=True),
        "it sweeps": lambda: neutron.sweep(all_tables=True),
        "its controller goes": lambda: ovs.vsctl("del-controller", bridge),
        "the fail mode is changed": lambda: ovs.vsctl("set-fail-mode", bridge, "standalone"),
        "an operator deletes them": lambda: ovs.ofctl("del-flows", bridge),
    }
    seconds = dict.fromkeys(acts, math.inf)
    # On a busy machine a measurement may wait for a processor: the best of three rounds counts.
    for _round in range(3):
        for what, act in acts.items():
            act()
            seconds[what] = min(seconds[what], time_to_recover(hypervisor, guests, flows))
        if max(seconds.values()) < WITHIN:
            break
    assert {what: each for what, each in seconds.items() if each >= WITHIN} == {}
