"""The metadata port's device: all guests are served, whatever others on the host do to it."""

import json
import socket
from typing import Any

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.inside import inside
from lab.rig.process import Process, run, wait_for
from ovs_metadata.host.address import METADATA_PORT, PROXY_PORT
from ovs_metadata.host.ovsdb import METADATA_PORT_OWNER

SMALL = 1000
"""An MTU below the least that IPv6 works with (1280)."""

PATIENCE = 60.0
"""Seconds that a busy machine may take."""


def start_agent(hypervisor: Hypervisor) -> Process:
    agent = hypervisor.spawn("agent", *hypervisor.command("agent"))
    hypervisor.wait_until_serving(PATIENCE)
    return agent


def ask_admin(hypervisor: Hypervisor, path: str) -> str:
    url = f"http://127.0.0.1:9775{path}"
    inside = ("nsenter", f"--net=/run/netns/{hypervisor.namespace}")
    return run(*inside, "curl", "-s", "-m", "5", url, check=False)


def health(hypervisor: Hypervisor) -> dict[str, Any]:
    text = ask_admin(hypervisor, "/healthz")
    return dict(json.loads(text)) if text else {"ready": False, "problems": ["it does not answer"]}


def wait_until_ready(hypervisor: Hypervisor) -> None:
    wait_for(lambda: health(hypervisor)["ready"], "the agent to be ready", PATIENCE)


def assert_served(guest: Guest) -> None:
    wait_for(lambda: guest.curl("/")[0] == 200, "an answer over IPv4", PATIENCE)
    wait_for(lambda: guest.curl("/", ipv6=True)[0] == 200, "an answer over IPv6", PATIENCE)


def add_tiny_guest(hypervisor: Hypervisor) -> Guest:
    """A guest whose network has a small MTU: Open vSwitch's own ports follow the smallest."""
    tiny = hypervisor.add_guest("tiny", plug=False)
    run("ip", "-n", hypervisor.namespace, "link", "set", tiny.tap, "mtu", str(SMALL))
    run("ip", "-n", tiny.name, "link", "set", "eth0", "mtu", str(SMALL))
    tiny.plug(hypervisor.ovs, hypervisor.bridge)
    hypervisor.ovs.ofport(tiny.tap)
    return tiny


def test_all_guests_are_served_beside_a_port_of_small_mtu(echoing: Hypervisor) -> None:
    add_tiny_guest(echoing)
    guest = echoing.add_guest("guest", mac="fa:16:3e:00:00:02", address="10.0.0.6/24")
    start_agent(echoing)
    assert_served(guest)
    wait_until_ready(echoing)
    echoing.ovs.kill_vswitchd()
    echoing.ovs.start_vswitchd()
    assert_served(guest)
    run("ip", "netns", "del", echoing.metadata_namespace)
    assert_served(guest)
    wait_until_ready(echoing)


def test_a_metadata_port_without_an_mtu_of_its_own_gets_one(echoing: Hypervisor) -> None:
    """As the agent of an earlier version has left it."""
    add_tiny_guest(echoing)
    key, value = METADATA_PORT_OWNER
    echoing.ovs.vsctl(
        *("add-port", echoing.bridge, METADATA_PORT, "vlan_mode=trunk", "trunks=4095"),
        *("--", "set", "port", METADATA_PORT, f"external_ids:{key}={value}"),
        *("--", "set", "interface", METADATA_PORT, "type=internal"),
    )
    echoing.ovs.ofport(METADATA_PORT)
    wait_for(lambda: f"mtu {SMALL}" in link(echoing.namespace), "a small MTU")
    guest = echoing.add_guest("guest", mac="fa:16:3e:00:00:02", address="10.0.0.6/24")
    start_agent(echoing)
    assert_served(guest)
    assert "mtu 1500" in link(echoing.metadata_namespace)
    assert echoing.ovs.vsctl("get", "interface", METADATA_PORT, "mtu_request").strip() == "1500"


def test_where_ipv6_is_switched_off_ipv4_is_served_and_nothing_is_missing(
    echoing: Hypervisor,
) -> None:
    guest = echoing.add_guest("guest")
    start_agent(echoing)
    assert_served(guest)
    setting = f"/proc/sys/net/ipv6/conf/{METADATA_PORT}/disable_ipv6"
    in_namespace(echoing, "sh", "-c", f"echo 1 >{setting}")
    wait_for(lambda: metric(echoing, "6") is None, "IPv6 not to be missed")
    wait_until_ready(echoing)
    assert metric(echoing, "4") == "1.0"
    assert guest.curl("/")[0] == 200
    in_namespace(echoing, "sh", "-c", f"echo 0 >{setting}")
    assert_served(guest)
    wait_for(lambda: metric(echoing, "6") == "1.0", "IPv6 again")


def test_ipv6_that_cannot_be_listened_on_is_a_problem_and_ipv4_is_served(
    echoing: Hypervisor,
) -> None:
    guest = echoing.add_guest("guest")
    start_agent(echoing)
    assert_served(guest)
    agent = echoing.processes["agent"]
    agent.stop()
    # Another program listens where the workers are to listen for guests over IPv6.
    with inside(echoing.metadata_namespace):
        other = socket.create_server(("::", PROXY_PORT), family=socket.AF_INET6)
    with other:
        start_agent(echoing)
        wait_for(lambda: guest.curl("/")[0] == 200, "an answer over IPv4", PATIENCE)
        found = health(echoing)
        assert not found["ready"]
        # Others may follow: the agent has just started, and its children have not reported yet.
        assert "IPv6: [Errno 98]" in found["problems"][0]
        assert (metric(echoing, "4"), metric(echoing, "6")) == ("1.0", "0.0")
    wait_until_ready(echoing)
    assert_served(guest)


def test_a_guest_whose_network_is_narrower_than_it_believes_gets_a_long_answer(
    echoing: Hypervisor,
) -> None:
    guest = echoing.add_guest("guest")
    start_agent(echoing)
    assert_served(guest)
    run("ip", "-n", echoing.namespace, "link", "set", guest.tap, "mtu", "1280")
    padding = ("-H", "X-Pad: " + "p" * 5000)
    assert guest.curl("/", *padding, timeout=10.0)[0] == 200
    assert guest.curl("/", *padding, ipv6=True, timeout=10.0)[0] == 200


def metric(hypervisor: Hypervisor, version: str) -> str | None:
    name = f'ovs_metadata_ip_version_served{{version="{version}"}} '
    lines = ask_admin(hypervisor, "/metrics").splitlines()
    return next((line.removeprefix(name) for line in lines if line.startswith(name)), None)


def in_namespace(hypervisor: Hypervisor, *command: str) -> str:
    return run("ip", "netns", "exec", hypervisor.metadata_namespace, *command)


def link(namespace: str) -> str:
    return run("ip", "-n", namespace, "link", "show", METADATA_PORT)
