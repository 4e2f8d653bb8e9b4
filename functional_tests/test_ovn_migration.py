"""A guest migrates live from one chassis of the real OVN to another, and is served all the time."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor
from ovn_fixtures import OvnHypervisor, ovn_hypervisor

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from lab.upstream.ovn import OvnController
from lab.upstream.ovn_install import SUITES


@dataclass(frozen=True)
class Deployment:
    """Two hypervisors with one OVN and one store."""

    source: OvnHypervisor
    target: Hypervisor


@pytest.fixture(scope="module", params=SUITES)
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    with ovn_hypervisor(request.param) as source, contextlib.ExitStack() as stack:
        target = make_hypervisor(openvswitch=source.central.installation.openvswitch)
        stack.callback(close_hypervisor, target)
        target.share_store(source.hypervisor)
        target.start()
        target.start_metadata_service()
        source.controller.start()
        OvnController(source.central, target, "127.0.0.2").start()
        source.hypervisor.start_agent()
        target.start_agent()
        yield Deployment(source, target)


def _requests(hypervisor: Hypervisor, guest: Guest) -> int | None:
    """How many requests of a guest an agent has counted; None if it does not know its port."""
    inside = ("ip", "netns", "exec", hypervisor.namespace)
    ports = json.loads(run(*inside, "curl", "--silent", "http://127.0.0.1:9775/ports"))["ports"]
    counts = [each["requests"] for each in ports if each["port_id"] == guest.port_id]
    return counts[0] if counts else None


def _ask(guest: Guest, here: Hypervisor, elsewhere: Hypervisor) -> None:
    """The guest's requests are all answered by one agent, and rightly."""
    before = _requests(here, guest) or 0, _requests(elsewhere, guest)
    for ipv6 in (False, True):
        assert guest.identity(ipv6=ipv6) == guest.instance_id
    wait_for(lambda: _requests(here, guest) == before[0] + 2, "the requests to be counted")
    assert _requests(elsewhere, guest) == before[1]


def test_a_guest_migrates_live(deployment: Deployment) -> None:
    ovn, source, target = deployment.source, deployment.source.hypervisor, deployment.target
    central = ovn.central
    guest = ovn.add_guest("guest")
    central.bind(guest, source.prefix)
    central.wait_for_controllers()
    assert central.chassis_of(guest) == {source.prefix}
    _ask(guest, source, target)

    # Nova plugs its port into the target before the instance is there.
    target.expect(guest)
    central.bind(guest, source.prefix, target.prefix)
    guest.attach(target.ovs)
    guest.plug(target.ovs, target.bridge)
    target.wait_until_served(guest)
    wait_for(
        lambda: central.chassis_of(guest) == {source.prefix, target.prefix}, "the second binding"
    )
    _ask(guest, source, target)

    # The instance stops there and goes on here.
    guest.move()
    _ask(guest, target, source)

    # Neutron and Nova remove what is left at the source, where another port gets its number.
    ofport = source.ovs.vsctl("get", "interface", guest.tap, "ofport").strip()
    central.bind(guest, target.prefix)
    guest.unplug(source.ovs)
    wait_for(lambda: central.chassis_of(guest) == {target.prefix}, "the port to be bound")
    other = source.add_guest("other", plug=False, mac=guest.mac, address=guest.address)
    central.add_port(other)
    other.plug(source.ovs, source.bridge, f"ofport_request={ofport}")
    source.wait_until_served(other)
    wait_for(lambda: other.identity() == other.instance_id, "the number's next port to be served")
    assert _requests(source, guest) is None
    _ask(guest, target, source)
