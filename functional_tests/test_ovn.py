"""Beside the real ovn-controller guests are served, and stay served whatever it does."""

import pytest
from ovn_fixtures import OvnHypervisor, ovn

from lab.load.conversation import IPV6, Conversation
from lab.load.recovery import time_to_recover
from lab.load.steady_load import Load
from lab.rig.guest import Guest

__all__ = ["ovn"]


@pytest.fixture(scope="module")
def neighbours(ovn: OvnHypervisor) -> tuple[Guest, Guest]:
    """Two guests of one logical switch."""
    of_other = {"mac": "fa:16:3e:00:00:02", "address": "10.0.0.6/24"}
    one = ovn.add_guest("one", IPV6[0])
    return one, ovn.add_guest("two", IPV6[1], network_id=one.network_id, **of_other)


@pytest.fixture(scope="module")
def twin(ovn: OvnHypervisor, neighbours: tuple[Guest, Guest]) -> Guest:
    """A guest of another logical switch with the addresses of the first neighbour."""
    one, _two = neighbours
    return ovn.add_guest("twin", mac=one.mac, address=one.address)


def test_guests_of_logical_switches_get_their_own_metadata(
    neighbours: tuple[Guest, Guest], twin: Guest
) -> None:
    for guest in (*neighbours, twin):
        assert guest.identity() == guest.instance_id
        assert guest.identity(ipv6=True) == guest.instance_id
    with Conversation(*neighbours):
        pass  # OVN connects them


@pytest.mark.parametrize("way", ["exit --restart", "exit", "killed"])
def test_ovn_controller_restarts(
    ovn: OvnHypervisor, neighbours: tuple[Guest, Guest], twin: Guest, way: str
) -> None:
    """It deletes all flows of the bridge when it connects, and `exit` deletes them, too."""
    one, _two = neighbours
    flows = ovn.hypervisor.static_flows()
    loads = [Load(guest, ovn.hypervisor.root, clients=1) for guest in (one, twin)]
    if way == "killed":
        ovn.controller.kill()
    else:
        ovn.controller.exit(*way.split()[1:])
    time_to_recover(ovn.hypervisor, [*neighbours, twin], flows)
    ovn.controller.start_again()
    time_to_recover(ovn.hypervisor, [*neighbours, twin], flows)
    with Conversation(*neighbours):
        pass
    for summary in [load.stop() for load in loads]:
        assert (summary.strangers, summary.failed) == (0, 0)
        assert summary.answered
