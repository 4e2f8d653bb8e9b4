"""Beside the real ovn-controller guests are served, and stay served whatever it does."""

import json
import re

import pytest
from ovn_fixtures import OvnHypervisor, ovn

from lab.load.conversation import IPV6, Conversation
from lab.load.recovery import time_to_recover
from lab.load.steady_load import Load
from lab.rig.guest import Guest
from lab.rig.process import run, wait_for
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
    with Conversation(*neighbours):
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
def test_ovn_has_no_table_of_ours(ovn: OvnHypervisor) -> None:
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
