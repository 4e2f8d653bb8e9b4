"""Which guests reach the service address, and by what route: docs/guest-routing.md, case by case.

One network, with real DHCP: dnsmasq on the bridge, udhcpc in the guests. The gateway is there, and
answers for its address, but forwards nothing and has never heard of the service.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab.rig.dhcp import Lease, ask_for_address, forget_address, start_dhcp_server
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor

GATEWAY = "10.8.0.1"
DHCP = "10.8.0.2"
NO_HOST = "10.8.0.254"
SERVICE = "169.254.169.254"
NO_GATEWAY = "option:router"
"""Option 3 without a value: dnsmasq would name itself."""

CASES = {
    # What Neutron's DHCP agent tells guests on a network with a router.
    "routed": (
        f"option:router,{GATEWAY}",
        f"option:classless-static-route,{SERVICE}/32,{GATEWAY},0.0.0.0/0,{GATEWAY}",
    ),
    "gateway-only": (f"option:router,{GATEWAY}",),
    "gateway-gone": (f"option:router,{NO_HOST}",),
    # What it tells them on one without, with enable_isolated_metadata.
    "isolated": (NO_GATEWAY, f"option:classless-static-route,{SERVICE}/32,{DHCP}"),
    # With a host route of the subnet: --host-route destination=169.254.169.254/32,gateway=0.0.0.0
    "link-local": (NO_GATEWAY, f"option:classless-static-route,{SERVICE}/32,0.0.0.0"),
    "link-local-and-gateway-gone": (
        f"option:router,{NO_HOST}",
        f"option:classless-static-route,{SERVICE}/32,0.0.0.0,0.0.0.0/0,{NO_HOST}",
    ),
    "no-route": (NO_GATEWAY,),
}


@dataclass
class Network:
    """A network with DHCP, a gateway, and a guest for each case."""

    hypervisor: Hypervisor
    dhcp: Guest
    guests: dict[str, Guest]

    def boot(self, case: str) -> tuple[Guest, str]:
        """The guest of a case, just booted; and its IPv4 routes."""
        guest = self.guests[case]
        forget_address(guest)
        return guest, ask_for_address(guest)


_number = itertools.count(16)


def add_guest(hypervisor: Hypervisor, name: str, *, record: bool = True, ip: str = "") -> Guest:
    number = next(_number)
    return hypervisor.add_guest(
        name,
        record=record,
        mac=f"fa:16:3e:08:00:{number:02x}",
        address=f"{ip or f'10.8.0.{number}'}/24",
    )


@pytest.fixture(scope="module")
def network(hypervisor: Hypervisor) -> Network:
    dhcp = add_guest(hypervisor, "dhcp", record=False, ip=DHCP)
    add_guest(hypervisor, "gateway", record=False, ip=GATEWAY)
    guests = {case: add_guest(hypervisor, f"g{number}") for number, case in enumerate(CASES)}
    for guest in guests.values():
        hypervisor.wait_until_served(guest)
    leases = [Lease(guests[case], options) for case, options in CASES.items()]
    start_dhcp_server(hypervisor, dhcp, "10.8.0.0", leases)
    return Network(hypervisor, dhcp, guests)


@pytest.fixture
def guest(hypervisor: Hypervisor) -> Iterator[Guest]:
    """A guest without any IPv4 address, on a network without DHCP."""
    guest = add_guest(hypervisor, f"s{next(_number)}")
    hypervisor.wait_until_served(guest)
    forget_address(guest)
    yield guest
    guest.unplug(hypervisor.ovs)


def is_silent(guest: Guest) -> bool:
    """Whether the guest gets no answer over IPv4."""
    return guest.curl(timeout=2) == (0, "")


@pytest.fixture
def without_dhcp_port(network: Network) -> Iterator[Callable[[], None]]:
    """Takes the DHCP port off the bridge, as when it was removed in Neutron."""
    yield lambda: network.dhcp.unplug(network.hypervisor.ovs)
    network.dhcp.plug(network.hypervisor.ovs, network.hypervisor.bridge)


@pytest.mark.parametrize(
    ("case", "route"),
    [
        ("routed", f"{SERVICE} via {GATEWAY}"),
        ("gateway-only", f"default via {GATEWAY}"),
        ("isolated", f"{SERVICE} via {DHCP}"),
        ("link-local", f"{SERVICE} dev eth0"),
        ("link-local-and-gateway-gone", f"{SERVICE} dev eth0"),
    ],
)
def test_a_guest_that_has_a_route_by_dhcp_is_served(
    network: Network, case: str, route: str
) -> None:
    guest, routes = network.boot(case)
    assert route in routes
    assert guest.identity() == guest.instance_id


@pytest.mark.parametrize(
    ("case", "default"), [("no-route", ""), ("gateway-gone", f"default via {NO_HOST}")]
)
def test_a_guest_without_a_way_is_silent_over_ipv4_and_served_over_ipv6(
    network: Network, case: str, default: str
) -> None:
    guest, routes = network.boot(case)
    # Beside the network's own.
    assert [line.strip() for line in routes.splitlines() if "scope link" not in line] == (
        [f"{default} dev eth0"] if default else []
    )
    assert is_silent(guest)
    assert guest.identity(ipv6=True) == guest.instance_id


def test_a_route_through_the_dhcp_port_ends_with_it(
    network: Network, without_dhcp_port: Callable[[], None]
) -> None:
    """So `ovs-metadata cleanup dhcp-ports` warns of such subnets; a link-local route stays."""
    isolated, _ = network.boot("isolated")
    link_local, _ = network.boot("link-local")
    assert isolated.identity() == isolated.instance_id
    without_dhcp_port()
    for guest in (isolated, link_local):
        # As when what it knows of its neighbours has aged.
        guest.run("ip", "neigh", "flush", "dev", "eth0")
    assert is_silent(isolated)
    assert link_local.identity() == link_local.instance_id
    isolated.run("ip", "route", "replace", SERVICE, "dev", "eth0")
    assert isolated.identity() == isolated.instance_id


@pytest.mark.parametrize(
    "route",
    [
        pytest.param((f"{SERVICE}/32", "dev", "eth0"), id="to the service"),
        pytest.param(("169.254.0.0/16", "dev", "eth0", "scope", "link"), id="zeroconf"),
        pytest.param(("default", "dev", "eth0"), id="everything on this link"),
        pytest.param(
            (f"{SERVICE}/32", "via", SERVICE, "dev", "eth0", "onlink"), id="through the service"
        ),
    ],
)
def test_a_link_local_route_by_hand_is_enough(guest: Guest, route: tuple[str, ...]) -> None:
    guest.run("ip", "addr", "add", guest.address, "dev", "eth0")
    assert is_silent(guest)
    guest.run("ip", "route", "add", *route)
    assert guest.identity() == guest.instance_id


def test_a_guest_that_gave_itself_a_link_local_address_is_served(guest: Guest) -> None:
    """RFC 3927: where there is no DHCP server. The address brings the route with it."""
    guest.run("ip", "addr", "add", "169.254.17.18/16", "dev", "eth0", "scope", "link")
    assert guest.identity() == guest.instance_id


def test_a_guest_without_ipv4_is_served_over_ipv6(guest: Guest) -> None:
    assert is_silent(guest)
    assert guest.identity(ipv6=True) == guest.instance_id


def test_another_nic_with_a_default_route_is_no_obstacle_to_a_link_local_one(
    network: Network,
) -> None:
    """The longest prefix wins, whatever the metrics."""
    guest, _ = network.boot("link-local")
    guest.run("ip", "link", "add", "eth1", "type", "veth", "peer", "eth1-far")
    try:
        for name in ("eth1", "eth1-far"):
            guest.run("ip", "link", "set", name, "up")
        guest.run("ip", "addr", "add", "192.0.2.5/24", "dev", "eth1")
        guest.run("ip", "route", "add", "default", "via", "192.0.2.1", "dev", "eth1")
        assert guest.identity() == guest.instance_id
    finally:
        guest.run("ip", "link", "del", "eth1")
