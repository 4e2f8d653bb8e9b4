"""What our flows cost ordinary traffic, in datapath flows; and what a hook by MAC must not cost."""

import json
import os
import subprocess
import sys

import pytest

from lab.rig.hypervisor import ROOT, Hypervisor
from lab.rig.process import wait_for
from ovs_metadata.host.address import METADATA_PORT_MAC, SERVICE_IPV6

pytestmark = pytest.mark.alone

TARGETS = 100
ANOTHER_MAC = "fa:16:3e:99:99:99"

IPV4 = {"TCP over IPv4", "UDP over IPv4", "ICMP over IPv4"}
MAX_WITH_TRIES = 32
"""Open vSwitch has prefix tries for IPv4 addresses: one datapath flow for each length at most."""
EACH_BY_ITSELF = {"solicitation, multicast", "ARP, broadcast"}
"""What the bridge looks at in full by itself: such a packet has a MAC or an answer of its own."""


@pytest.mark.timeout(300)
def test_ordinary_traffic_costs_what_it_costs_without_us() -> None:
    command = (sys.executable, "-m", "benchmarks.datapath", "--targets", str(TARGETS))
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    text = subprocess.run(
        [*command, "--format", "json"],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    for name, cost in json.loads(text).items():
        before, now = cost["without"], cost["with"]
        if name in IPV4:
            assert max(now.values()) <= MAX_WITH_TRIES, name
        elif name in EACH_BY_ITSELF:
            assert max(now.values()) <= TARGETS, name
        else:
            assert before == now == {"datapath_flows": 1, "upcalls": 1}, name


def test_a_guest_that_holds_another_mac_for_the_service_does_not_wait(
    hypervisor: Hypervisor,
) -> None:
    """Such as Neutron's, from before the host was switched over to us."""
    guest = hypervisor.add_guest("switched", record=False)
    where = (SERVICE_IPV6, "lladdr", ANOTHER_MAC, "dev", "eth0")
    guest.run("ip", "-6", "neigh", "replace", *where, "nud", "reachable")
    hypervisor.put(guest)
    hypervisor.wait_until_served(guest)
    wait_for(
        lambda: METADATA_PORT_MAC in guest.run("ip", "-6", "neigh", "show", SERVICE_IPV6),
        "the guest to hold our MAC",
        5,
    )
    assert guest.identity("--max-time", "5", ipv6=True) == guest.instance_id
