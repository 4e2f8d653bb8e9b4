"""What removing DHCP ports would do."""

import uuid
from typing import Any

import pytest

from ovs_metadata.cli.cleanup.dhcp_ports import (
    DHCP_OWNER,
    RESERVED,
    DhcpAgent,
    Loss,
    Surroundings,
    is_of_host,
    is_there,
    recreating,
    restoration,
    route_losses,
    select,
    with_dhcp,
)

PORT = {
    "id": "p1",
    "network_id": "n1",
    "device_owner": DHCP_OWNER,
    "device_id": "dhcp-of-no-one-n1",
    "mac_address": "fa:16:3e:00:00:01",
    "binding:host_id": "node-1",
    "fixed_ips": [{"subnet_id": "s1", "ip_address": "10.0.0.2"}],
}
NODE_1 = uuid.uuid5(uuid.NAMESPACE_DNS, "node-1")
SUBNET = {
    "id": "s1",
    "network_id": "n1",
    "cidr": "10.0.0.0/24",
    "ip_version": 4,
    "gateway_ip": "10.0.0.1",
    "enable_dhcp": True,
    "host_routes": [],
}


def around(*, routers: tuple[tuple[str, str], ...] = (), **subnet: Any) -> Surroundings:
    return Surroundings((), {"s1": {**SUBNET, **subnet}}, frozenset(routers))


def route(destination: str, nexthop: str) -> dict[str, str]:
    return {"destination": destination, "nexthop": nexthop}


@pytest.mark.parametrize("host", ["node-7", "node-7.example.org"])
def test_a_port_bound_nowhere_is_known_by_its_device_id(host: str) -> None:
    agent = uuid.uuid5(uuid.NAMESPACE_DNS, "node-7")
    port = {**PORT, "binding:host_id": "", "device_id": f"dhcp{agent}-n1"}
    assert is_of_host(port, host)
    assert not is_of_host(port, "node-1")
    assert is_of_host(PORT, "node-1")


def test_only_dhcp_ports_are_ever_selected() -> None:
    instance = {**PORT, "id": "p0", "device_owner": "compute:nova"}
    other = {**PORT, "id": "p2", "network_id": "n0"}
    assert select([PORT, instance, other], (), ()) == [other, PORT]
    assert select([PORT, instance, other], {"n1"}, ()) == [PORT]
    assert select([PORT, instance, other], {"n1"}, {"node-2"}) == []


def test_the_metadata_ports_of_ovn_are_never_selected() -> None:
    """Neutron would delete them, and never create them again."""
    older = {**PORT, "id": "p3", "device_id": "ovnmeta-n1"}
    distributed = {**older, "device_owner": "network:distributed"}
    assert select([older, distributed, PORT], (), ()) == [PORT]


@pytest.mark.parametrize(
    ("active", "networks", "expected"),
    [(True, {"n1", "n9"}, ["n1"]), (True, {"n9"}, None), (False, {"n1"}, None)],
)
def test_an_active_agent_creates_the_ports_of_its_networks_again(
    active: bool, networks: set[str], expected: list[str] | None
) -> None:
    agent = DhcpAgent("a1", "node-1", active, frozenset(networks))
    assert recreating([agent], [PORT]) == ({agent: expected} if expected else {})


@pytest.mark.parametrize(
    ("port", "refused"),
    [
        ({}, True),
        ({"binding:host_id": "node-2"}, False),
        ({"binding:host_id": ""}, True),
        ({"binding:host_id": "node-2", "device_id": RESERVED}, True),
        ({"binding:host_id": "node-2", "device_id": f"dhcp{NODE_1}-n1"}, True),
    ],
)
def test_an_agent_does_not_create_ports_of_another_again(
    port: dict[str, str], refused: bool
) -> None:
    """Of a network that two agents host (dhcp_agents_per_network), one may be gone for good."""
    agent = DhcpAgent("a1", "node-1", True, frozenset({"n1"}))
    assert bool(recreating([agent], [{**PORT, **port}])) is refused


REASONS = {
    Loss.NO_GATEWAY: "has no gateway",
    Loss.NO_ROUTER: "which is no router of Neutron's",
    Loss.HOST_ROUTE: "has a host route that leads to",
}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({}, Loss.NO_ROUTER),
        ({"routers": (("s1", "10.0.0.1"),)}, None),
        ({"routers": (("s1", "10.0.0.3"),)}, Loss.NO_ROUTER),
        ({"routers": (("s2", "10.0.0.1"),)}, Loss.NO_ROUTER),
        ({"gateway_ip": None}, Loss.NO_GATEWAY),
        ({"gateway_ip": None, "host_routes": [route("10.9.0.0/16", "10.0.0.9")]}, Loss.NO_GATEWAY),
        ({"gateway_ip": None, "host_routes": [route("169.254.0.0/16", "0.0.0.0")]}, None),
        ({"gateway_ip": None, "host_routes": [route("0.0.0.0/0", "10.0.0.9")]}, Loss.NO_ROUTER),
        (
            {
                "gateway_ip": None,
                "host_routes": [route("0.0.0.0/0", "10.0.0.9")],
                "routers": (("s1", "10.0.0.9"),),
            },
            None,
        ),
        (
            {
                "host_routes": [route("169.254.169.254/32", "10.0.0.2")],
                "routers": (("s1", "10.0.0.1"),),
            },
            Loss.HOST_ROUTE,
        ),
        ({"ip_version": 6, "cidr": "2001:db8::/64", "gateway_ip": None}, None),
    ],
)
def test_whose_way_to_the_service_ends(values: dict[str, Any], kind: Loss | None) -> None:
    losses = route_losses([PORT], around(**values))
    assert [loss.kind for loss in losses] == ([kind] if kind else [])
    for loss in losses:
        assert "s1" in loss.message
        assert "10.0.0.0/24" in loss.message
        assert REASONS[loss.kind] in loss.message


def test_a_subnet_of_two_ports_is_reported_once() -> None:
    second = {**PORT, "id": "p2", "fixed_ips": [{"subnet_id": "s1", "ip_address": "10.0.0.3"}]}
    gone = {**PORT, "id": "p3", "fixed_ips": [{"subnet_id": "deleted", "ip_address": "10.0.0.4"}]}
    assert len(route_losses([PORT, second, gone], around())) == 1
    assert with_dhcp([PORT, second, gone], around()) == ["s1"]
    assert with_dhcp([PORT], around(enable_dhcp=False)) == []


def test_a_port_is_created_again_from_its_settable_attributes() -> None:
    port = {
        **PORT,
        "status": "ACTIVE",
        "revision_number": 7,
        "name": "",
        "admin_state_up": False,
        "port_security_enabled": False,
        "security_groups": [],
        "binding:profile": {},
        "binding:vif_type": "ovs",
    }
    assert restoration(port) == {
        "network_id": "n1",
        "device_owner": DHCP_OWNER,
        "device_id": "dhcp-of-no-one-n1",
        "mac_address": "fa:16:3e:00:00:01",
        "binding:host_id": "node-1",
        "fixed_ips": PORT["fixed_ips"],
        "admin_state_up": False,
        "port_security_enabled": False,
    }


@pytest.mark.parametrize(
    ("changes", "there"),
    [
        ({}, True),
        ({"id": "p2", "device_id": "other"}, True),
        ({"id": "p2", "mac_address": "fa:16:3e:00:00:02"}, True),
        ({"id": "p2", "device_id": "other", "mac_address": "fa:16:3e:00:00:02"}, False),
        ({"id": "p2", "network_id": "n2"}, False),
    ],
)
def test_whether_a_port_is_there_again(changes: dict[str, str], there: bool) -> None:
    assert is_there(PORT, [{**PORT, **changes}]) == there


def test_ports_in_reserve_are_not_taken_for_each_other() -> None:
    port = {**PORT, "device_id": RESERVED}
    assert not is_there(port, [{**port, "id": "p2", "mac_address": "fa:16:3e:00:00:02"}])
