"""Side by side with Neutron's own metadata proxy: ports that are not ours go on using it."""

import json
from collections.abc import Iterator

import pytest
from hypervisor_fixtures import Factory

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.inside import http_server
from lab.rig.process import wait_for
from lab.stand_ins.neutron_l2_agent import NeutronL2Agent
from ovs_metadata.host.address import (
    METADATA_PORT_MAC,
    SERVICE_IPV4,
    SERVICE_IPV6,
    SERVICE_PORT,
)

NEUTRON = "an answer by way of Neutron's own proxy"
DHCP_PORT = "10.0.0.2"


@pytest.fixture
def hypervisor(lab_hypervisor: Factory) -> Iterator[Hypervisor]:
    """One with Neutron's proxy: a DHCP namespace on the network, with the service address."""
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.start_metadata_service()
    NeutronL2Agent(hypervisor.ovs, hypervisor.bridge).set_up_bridge()
    hypervisor.start_agent()
    dhcp = hypervisor.add_guest(
        "dhcp", mac="fa:16:3e:00:00:02", address=f"{DHCP_PORT}/24", record=False
    )
    hypervisor.put(dhcp, device_owner="network:dhcp", device_id=f"dhcp-{dhcp.network_id}")
    hypervisor.ovs.vsctl("set", "port", dhcp.tap, "tag=1")
    dhcp.run("ip", "addr", "add", f"{SERVICE_IPV4}/32", "dev", "eth0")
    dhcp.run("ip", "addr", "add", f"{SERVICE_IPV6}/64", "dev", "eth0", "nodad")
    with (
        http_server(dhcp.name, SERVICE_IPV4, SERVICE_PORT, NEUTRON),
        http_server(dhcp.name, "::", SERVICE_PORT, NEUTRON),
    ):
        yield hypervisor


def _add(hypervisor: Hypervisor, name: str, number: int, way: str, *, record: bool) -> Guest:
    guest = hypervisor.add_guest(
        name, mac=f"fa:16:3e:00:01:{number:02x}", address=f"10.0.0.{number}/24", record=record
    )
    hypervisor.ovs.vsctl("set", "port", guest.tap, "tag=1")
    if way == "by the DHCP port's route":
        guest.run("ip", "route", "replace", f"{SERVICE_IPV4}/32", "via", DHCP_PORT)
    return guest


def _answer(guest: Guest, *, ipv6: bool) -> str:
    """Who answers: Neutron's proxy, or ours with the instance's identity."""
    path = "/openstack/latest/meta_data.json"
    status, body = guest.curl(path, "--max-time", "2", ipv6=ipv6)
    if status != 200:
        return f"no service: status {status}"
    return body if body == NEUTRON else str(json.loads(body)["uuid"])


def _forget_neighbours_soon(guest: Guest, family: str) -> None:
    """Have it notice within seconds that a neighbour is gone, and not after half a minute."""
    for setting in ("base_reachable_time_ms=500", "delay_first_probe_time=1", "gc_stale_time=1"):
        guest.run("sysctl", "-qw", f"net.{family}.neigh.eth0.{setting}")


@pytest.mark.parametrize("way", ["on the link", "by the DHCP port's route", "over IPv6"])
def test_a_port_is_ours_exactly_while_it_has_a_record(hypervisor: Hypervisor, way: str) -> None:
    ipv6 = way == "over IPv6"
    ours = _add(hypervisor, "ours", 5, way, record=True)
    theirs = _add(hypervisor, "theirs", 6, way, record=False)
    _forget_neighbours_soon(theirs, "ipv6")
    hypervisor.wait_until_served(ours)
    ofport = hypervisor.ovs.ofport(theirs.tap)
    assert _answer(ours, ipv6=ipv6) == ours.instance_id
    # Over IPv6 once: the guest holds our MAC from then on, for which see the next test.
    for _time in range(1 if ipv6 else 2):
        assert hypervisor.flows_of(ofport) == []
        assert _answer(theirs, ipv6=ipv6) == NEUTRON
        hypervisor.put(theirs)
        hypervisor.wait_until_served(theirs)
        assert _answer(theirs, ipv6=ipv6) == theirs.instance_id
        assert _answer(ours, ipv6=ipv6) == ours.instance_id
        hypervisor.store.delete(theirs.port_id)
        wait_for(lambda: not hypervisor.flows_of(ofport), "its flows to go")
        if ipv6:
            wait_for(lambda: _answer(theirs, ipv6=True) == NEUTRON, "Neutron's proxy to answer", 30)
        assert _answer(theirs, ipv6=ipv6) == NEUTRON
        assert _answer(ours, ipv6=ipv6) == ours.instance_id


def test_a_port_that_has_learnt_our_mac_finds_neutrons_proxy_again(hypervisor: Hypervisor) -> None:
    """The guest's own kernel has to find out that no host has our MAC, which takes its time."""
    guest = _add(hypervisor, "guest", 5, "on the link", record=True)
    hypervisor.wait_until_served(guest)
    _forget_neighbours_soon(guest, "ipv4")
    guest.run("ip", "neigh", "flush", "dev", "eth0")
    assert _answer(guest, ipv6=False) == guest.instance_id
    assert METADATA_PORT_MAC in guest.run("ip", "neigh", "show", SERVICE_IPV4)
    hypervisor.store.delete(guest.port_id)
    wait_for(lambda: _answer(guest, ipv6=False) == NEUTRON, "Neutron's proxy to answer", 30)
