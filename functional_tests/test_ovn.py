"""Beside the real ovn-controller guests are served, and stay served whatever it does."""

import json
import re
import uuid

import pytest
from ovn_fixtures import OvnHypervisor, ovn, ovn_hypervisor

from lab.load.guest_traffic import IPV6, GuestTraffic
from lab.load.recovery import time_to_recover
from lab.load.steady_load import Load
from lab.rig.dhcp import ask_for_address, forget_address
from lab.rig.guest import Guest
from lab.rig.process import run, wait_for
from lab.upstream.ovn_install import SUITES
from ovs_metadata.flows.tables import COOKIE_PREFIX, table_names
from ovs_metadata.host.config import FlowOptions

__all__ = ["ovn"]

STATUS = "http://127.0.0.1:9775/status"
BASE = FlowOptions().table_base


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
    with GuestTraffic(*neighbours):
        pass  # OVN connects them


def _names(ovn: OvnHypervisor) -> dict[int, str]:
    """The rows of our tables in OVSDB's Flow_Table."""
    rows = ovn.hypervisor.ovs.vsctl("get", "bridge", ovn.hypervisor.bridge, "flow_tables")
    numbers = dict(row.split("=") for row in rows.strip().strip("{}").split(", "))
    return {number: numbers[str(number)] for number in table_names(BASE)}


def test_our_tables_keep_their_names(ovn: OvnHypervisor, neighbours: tuple[Guest, Guest]) -> None:
    """Since 25.03 ovn-controller points all tables at one row without a name, when it starts."""
    hypervisor, one = ovn.hypervisor, neighbours[0]

    def named() -> bool:
        flows = hypervisor.flows(f"table={BASE}")
        return "table=MetadataToProxy" in flows

    wait_for(named, "the names of our tables")
    ovn.controller.exit("--restart")
    ovn.controller.start_again()
    wait_for(named, "the names of our tables")
    after = _names(ovn)
    # And leaves them alone afterwards.
    ovn.add_guest("later", mac="fa:16:3e:00:00:03", address="10.0.0.7/24")
    assert _names(ovn) == after
    assert one.identity() == one.instance_id


@pytest.mark.usefixtures("neighbours")
def test_ovn_uses_none_of_our_tables(ovn: OvnHypervisor) -> None:
    """The numbers that OVN uses grow from release to release."""
    flows = ovn.hypervisor.ovs.ofctl("--no-names dump-flows", ovn.hypervisor.bridge)
    theirs = (line for line in flows.splitlines() if f"cookie={COOKIE_PREFIX >> 32:#x}" not in line)
    tables = {int(found[1]) for line in theirs if (found := re.search(r" table=(\d+),", line))}
    assert max(tables) > 64, "OVN has flows"
    assert max(tables) < BASE


def test_the_metadata_agents_port_is_not_an_instances(
    ovn: OvnHypervisor, neighbours: tuple[Guest, Guest]
) -> None:
    """Neutron's agent plugs a tap device for each network, and the store has no record of it."""
    hypervisor, (one, _two) = ovn.hypervisor, neighbours
    meta = hypervisor.add_guest(
        "meta", plug=False, record=False, mac="fa:16:3e:00:00:fe", address="10.0.0.2/24"
    )
    ovn.central.add_metadata_port(one, meta.port_id, meta.mac, meta.ip)
    hypervisor.ovs.vsctl(
        *("add-port", hypervisor.bridge, meta.tap, "--", "set", "interface", meta.tap),
        f"external_ids:iface-id={meta.port_id}",
    )
    ovn.add_guest("last", mac="fa:16:3e:00:00:04", address="10.0.0.8/24")
    inside = ("ip", "netns", "exec", hypervisor.namespace)
    ports = json.loads(run(*inside, "curl", "--silent", STATUS))["ports"]
    assert (ports["pending"], ports["refused"]) == (0, 0)
    # The way that Neutron's option 121 tells instances to take leads to our worker, too.
    one.run("ip", "route", "replace", "169.254.169.254/32", "via", meta.ip, "dev", "eth0")
    try:
        assert one.identity() == one.instance_id
    finally:
        one.run("ip", "route", "replace", "169.254.169.254/32", "dev", "eth0")
        meta.unplug(hypervisor.ovs)


def test_the_southbound_database_restarts(
    ovn: OvnHypervisor, neighbours: tuple[Guest, Guest]
) -> None:
    flows = ovn.hypervisor.static_flows()
    ovn.central.stop_database("sb")
    for guest in neighbours:
        assert guest.identity() == guest.instance_id
    ovn.central.start_database("sb")
    ovn.central.wait_for_controllers()
    time_to_recover(ovn.hypervisor, neighbours, flows)
    with GuestTraffic(*neighbours):
        pass


@pytest.mark.parametrize("suite", SUITES)
def test_ovn_controller_makes_the_bridge(suite: str) -> None:
    with ovn_hypervisor(suite) as ovn:
        hypervisor = ovn.hypervisor
        hypervisor.ovs.vsctl("del-br", hypervisor.bridge)
        hypervisor.spawn("agent", *hypervisor.command("agent"))
        ovn.controller.start()
        hypervisor.wait_until_serving()
        guest = ovn.add_guest("guest")
        assert guest.identity() == guest.instance_id


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
    with GuestTraffic(*neighbours):
        pass
    for summary in [load.stop() for load in loads]:
        assert (summary.strangers, summary.failed) == (0, 0)
        assert summary.answered


def test_guests_behind_a_router_take_the_route_of_dhcp(ovn: OvnHypervisor) -> None:
    """Option 121 leads to the metadata port, which is there without Neutron's agent, too."""
    central = ovn.central
    near = ovn.add_guest("near", mac="fa:16:3e:00:01:05", address="10.1.0.5/24")
    far = ovn.add_guest("far", mac="fa:16:3e:00:02:05", address="10.2.0.5/24")
    gateways = {
        near.network_id: ("fa:16:3e:00:01:01", "10.1.0.1/24"),
        far.network_id: ("fa:16:3e:00:02:01", "10.2.0.1/24"),
    }
    central.route("router", gateways)
    for guest, network in ((near, "10.1.0"), (far, "10.2.0")):
        mac, _ = gateways[guest.network_id]
        metadata_port = f"{network}.2"
        routes = f"169.254.169.254/32,{metadata_port}, 0.0.0.0/0,{network}.1"
        options = {
            "classless_static_route": f"{{{routes}}}",
            "lease_time": "43200",
            "mtu": "1442",
            "router": f"{network}.1",
            "server_id": f"{network}.1",
            "server_mac": mac,
        }
        central.give_addresses(guest.network_id, f"{network}.0/24", options)
        central.add_metadata_port(guest, str(uuid.uuid4()), "fa:16:3e:00:00:fe", metadata_port)
        central.wait_for_controllers()
        forget_address(guest)
        assert f"169.254.169.254 via {metadata_port}" in ask_for_address(guest)
        assert guest.identity() == guest.instance_id
        # As without Neutron's ovn_metadata_enabled: the default route is enough.
        guest.run("ip", "route", "del", "169.254.169.254")
        assert guest.identity() == guest.instance_id
    near.run("busybox", "ping", "-c", "1", "-W", "5", far.ip)


def test_security_groups_do_not_matter(ovn: OvnHypervisor) -> None:
    """Open vSwitch 3.1.0 aborts in its userspace connection tracking: it has none to do here."""
    one = ovn.add_guest("secure", IPV6[0], mac="fa:16:3e:00:03:05", address="10.3.0.5/24")
    two = ovn.add_guest(
        *("secured", IPV6[1]),
        network_id=one.network_id,
        mac="fa:16:3e:00:03:06",
        address="10.3.0.6/24",
    )
    ovn.central.secure(one.network_id, stateful=ovn.suite != "bookworm")
    ovn.central.wait_for_controllers()
    for guest in (one, two):
        assert guest.identity() == guest.instance_id
        assert guest.identity(ipv6=True) == guest.instance_id
    with GuestTraffic(one, two):
        pass
