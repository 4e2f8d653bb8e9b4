"""Whatever the bridge is to do without its controller, guests are served."""

import pytest
from hypervisor_fixtures import Factory

from lab.load.recovery import time_to_recover
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import wait_for
from ovs_metadata.flows.tables import COOKIE_PREFIX


def _start(hypervisor: Hypervisor, fail_mode: str) -> Guest:
    hypervisor.start(f"fail_mode={fail_mode}")
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    guest = hypervisor.add_guest("guest")
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id
    return guest


@pytest.mark.parametrize("fail_mode", ["standalone", "secure"])
def test_the_bridge_is_deleted_and_made_again(lab_hypervisor: Factory, fail_mode: str) -> None:
    hypervisor = lab_hypervisor()
    guest = _start(hypervisor, fail_mode)
    ovs, bridge = hypervisor.ovs, hypervisor.bridge
    for _time in range(2):
        ovs.vsctl("del-br", bridge)
        ovs.add_bridge(bridge, f"fail_mode={fail_mode}")
        guest.plug(ovs, bridge)
        # No port gets the number until the new datapath has no flow of the old one.
        time_to_recover(hypervisor, [guest])
        assert ovs.vsctl("get-fail-mode", bridge).strip() == fail_mode
        # What stood there before us is what such a bridge has.
        foreign = [
            flow
            for flow in ovs.ofctl("--no-stats dump-flows", bridge).splitlines()
            if "actions=" in flow and f"cookie={COOKIE_PREFIX >> 32:#x}" not in flow
        ]
        assert len(foreign) == (1 if fail_mode == "standalone" else 0), foreign


def test_the_fail_mode_is_changed(lab_hypervisor: Factory) -> None:
    """Open vSwitch flushes the bridge each time."""
    hypervisor = lab_hypervisor()
    guest = _start(hypervisor, "standalone")
    flows = hypervisor.static_flows()
    vsctl, bridge = hypervisor.ovs.vsctl, hypervisor.bridge
    for change in (
        ("set-fail-mode", bridge, "secure"),
        ("set-fail-mode", bridge, "standalone"),
        ("del-fail-mode", bridge),
    ):
        vsctl(*change)
        time_to_recover(hypervisor, [guest], flows)
    assert vsctl("get-fail-mode", bridge) == ""


@pytest.mark.parametrize("fail_mode", ["standalone", "secure"])
def test_the_controller_of_another_program_is_dead(lab_hypervisor: Factory, fail_mode: str) -> None:
    """A standalone bridge then switches by NORMAL, past all flows; a secure one minds nothing."""
    hypervisor = lab_hypervisor()
    guest = _start(hypervisor, fail_mode)
    flows = hypervisor.static_flows()
    vsctl, bridge = hypervisor.ovs.vsctl, hypervisor.bridge
    vsctl(
        *("set-controller", bridge, "tcp:127.0.0.1:6633"),
        *("--", "set", "controller", bridge, "inactivity_probe=1000"),
    )
    if fail_mode == "standalone":
        wait_for(
            lambda: "priority=15790320" in hypervisor.ovs.appctl("bridge/dump-flows", bridge),
            "the bridge to fail open",
            30,
        )
        vsctl("del-controller", bridge)
    time_to_recover(hypervisor, [guest], flows)
