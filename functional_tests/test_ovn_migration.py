"""A guest migrates live from one chassis of the real OVN to another, and one agent serves it.

With records of the store that is the one where the guest runs. With OVN's records it is the one of
the chassis that the port is bound to, and for some moments the guest waits.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor
from ovn_fixtures import OvnHypervisor, listed, ovn_hypervisor

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from lab.upstream.ovn import OvnController

RECORDS = {"bookworm": "ovn", "trixie": "store", "sid": "ovn"}
"""Where the records come from, by Debian's suite."""


@dataclass(frozen=True)
class Deployment:
    """Two hypervisors with one OVN and one store."""

    source: OvnHypervisor
    target: Hypervisor
    records: str


@pytest.fixture(scope="module", params=RECORDS)
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    with ovn_hypervisor(request.param) as source, contextlib.ExitStack() as stack:
        target = make_hypervisor(openvswitch=source.central.installation.openvswitch)
        stack.callback(close_hypervisor, target)
        records = RECORDS[request.param]
        target.share_store(source.hypervisor)
        target.start()
        for each in (source.hypervisor, target):
            each.configure(store={"records": records})
        target.start_metadata_service()
        source.controller.start()
        OvnController(source.central, target, "127.0.0.2").start()
        source.hypervisor.start_agent()
        target.start_agent()
        yield Deployment(source, target, records)


def _requests(hypervisor: Hypervisor, guest: Guest) -> int | None:
    """How many requests of a guest an agent has counted; None if it does not know its port."""
    inside = ("ip", "netns", "exec", hypervisor.namespace)
    ports = json.loads(run(*inside, "curl", "--silent", "http://127.0.0.1:9775/ports"))["ports"]
    counts = [each["requests"] for each in ports if each["port_id"] == guest.port_id]
    return counts[0] if counts else None


def _waits(hypervisor: Hypervisor, guest: Guest) -> bool:
    """Whether the port is not served because another chassis has it."""
    ofport = hypervisor.ovs.ofport(guest.tap)
    elsewhere = listed(hypervisor, guest.port_id).get("bound_elsewhere")
    return bool(elsewhere) and not hypervisor.flows_of(ofport)


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
    wait_for(
        lambda: central.chassis_of(guest) == {source.prefix, target.prefix}, "the second binding"
    )
    if deployment.records == "ovn":
        wait_for(lambda: _waits(target, guest), "the port to wait")
    else:
        target.wait_until_served(guest)
    _ask(guest, source, target)

    # The instance stops there and goes on here.
    guest.move()
    if deployment.records == "ovn":
        assert guest.identity("--max-time", "1") is None
        central.bind(guest, target.prefix)
        target.wait_until_served(guest)
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
