"""What removing Neutron's DHCP ports would do. Pure functions on Neutron's documents, no I/O.

A DHCP agent has a port on each network it serves (device_owner `network:dhcp`), and creates it
again when it is deleted. Where no router of Neutron's is the gateway of a subnet, the agent leads
guests to 169.254.169.254 through that port, by a route in DHCP option 121 (Neutron's
`enable_isolated_metadata`).
"""

import contextlib
import enum
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

Document = Mapping[str, Any]
"""A resource as Neutron's API shows it."""

DHCP_OWNER = "network:dhcp"
"""device_owner of the ports this is about."""

OVN_METADATA = "ovnmeta-"
"""Beginning of the device_id of a metadata port of ML2/OVN, which clouds older than Victoria give
device_owner `network:dhcp`. Neutron never creates it again, and guests' routes lead to it."""

RESERVED = "reserved_dhcp_port"
"""device_id of DHCP ports that Neutron took from an agent and keeps for the next one."""

ROUTER_OWNERS = (
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
)
"""device_owner of ports by which a router of Neutron's is on a network."""

HOST = "binding:host_id"

_FIXED_IPS = [{"subnet_id": str, "ip_address": str}]
DHCP_PORT = {
    **dict.fromkeys(("id", "network_id", "mac_address", "device_id", "device_owner"), str),
    HOST: str | None,
    "fixed_ips": _FIXED_IPS,
}
ROUTER_PORT = {"fixed_ips": _FIXED_IPS}
SUBNET = {
    **dict.fromkeys(("id", "network_id", "cidr"), str),
    "ip_version": int,
    "gateway_ip": str | None,
    "host_routes": [{"destination": str, "nexthop": str}],
}
AGENT = {"id": str, "host": str}
"""What is asked of Neutron's documents: shapes of `untrusted.fits`."""

_SERVICE = IPv4Address("169.254.169.254")

_RESTORED = (
    "name",
    "description",
    "project_id",
    "network_id",
    "device_owner",
    "device_id",
    "admin_state_up",
    "mac_address",
    "fixed_ips",
    HOST,
    "binding:vnic_type",
    "binding:profile",
    "dns_name",
    "extra_dhcp_opts",
    "port_security_enabled",
    "security_groups",
    "allowed_address_pairs",
)
"""What a port is created again from. Neutron chooses its id, revision and state itself."""


@dataclass(frozen=True, slots=True)
class DhcpAgent:
    """One of Neutron's DHCP agents; `active`: alive, and not disabled by an administrator."""

    agent_id: str
    host: str
    active: bool
    networks: frozenset[str]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What decides about DHCP ports: agents, subnets by id, and where Neutron's routers are.

    `routers` holds the id of a subnet and an address that a router has there.
    """

    agents: tuple[DhcpAgent, ...]
    subnets: Mapping[str, Document]
    routers: frozenset[tuple[str, str]]


class Loss(enum.Enum):
    """Why guests of a subnet would no longer reach the service address."""

    NO_GATEWAY = "no_gateway"
    """There is no gateway: the route through the DHCP port is the only one."""

    NO_ROUTER = "no_router"
    """The gateway is no router of Neutron's: there is none, or one that Neutron does not know."""

    HOST_ROUTE = "host_route"
    """A route of the subnet itself leads through the DHCP port."""


@dataclass(frozen=True, slots=True)
class RouteLoss:
    """A subnet whose guests may lose their way to the service address."""

    network_id: str
    subnet_id: str
    cidr: str
    gateway: str | None
    kind: Loss

    @property
    def message(self) -> str:
        """What happens, and what to do, for an operator."""
        where = f"subnet {self.subnet_id} ({self.cidr}) of network {self.network_id}"
        if self.kind is Loss.NO_GATEWAY:
            return (
                f"{where} has no gateway: its guests lose their only route to {_SERVICE}, through "
                "the DHCP port; give them a link-local one first (docs/guest-routing.md)"
            )
        if self.kind is Loss.HOST_ROUTE:
            return (
                f"{where} has a host route that leads to {_SERVICE} through the DHCP port: change "
                "or unset it first (docs/guest-routing.md)"
            )
        return (
            f"{where} has gateway {self.gateway}, which is no router of Neutron's: guests lose "
            f"the route to {_SERVICE} through the DHCP port, and reach it only if something "
            f"answers for {self.gateway} (docs/guest-routing.md)"
        )


def is_of_host(port: Document, host: str) -> bool:
    """Whether a DHCP port belongs to the agent of a host.

    It is bound there, or has the device_id that the agent gives it: `dhcp`, a UUID made of the
    host's name up to the first dot, and the network's id (neutron.common.utils). A port that was
    bound elsewhere since, or never, still has the latter.
    """
    if port.get(HOST) == host:
        return True
    agent = uuid.uuid5(uuid.NAMESPACE_DNS, host.partition(".")[0])
    return str(port.get("device_id", "")).startswith(f"dhcp{agent}-")


def select(
    ports: Iterable[Document], networks: Collection[str], hosts: Collection[str]
) -> list[Document]:
    """The DHCP ports on any of these networks, and of an agent on any of these hosts.

    An empty collection selects all. In order of network.
    """
    found = [
        port
        for port in ports
        if port["device_owner"] == DHCP_OWNER
        and not port["device_id"].startswith(OVN_METADATA)
        and (not networks or port["network_id"] in networks)
        and (not hosts or any(is_of_host(port, host) for host in hosts))
    ]
    return sorted(found, key=lambda port: (port["network_id"], port["id"]))


def recreating(
    agents: Iterable[DhcpAgent], ports: Collection[Document]
) -> dict[DhcpAgent, list[str]]:
    """Active agents that would create some of these ports again, with the networks of those.

    An agent creates its own ports again, not those of another that hosts the network as well; what
    is in reserve, or bound nowhere, may be any agent's.
    """
    found = {}
    for agent in agents:
        networks = {
            port["network_id"]
            for port in ports
            if port["network_id"] in agent.networks and _may_be_of(agent, port)
        }
        if agent.active and networks:
            found[agent] = sorted(networks)
    return found


def _may_be_of(agent: DhcpAgent, port: Document) -> bool:
    return port.get("device_id") == RESERVED or not port.get(HOST) or is_of_host(port, agent.host)


def route_losses(ports: Iterable[Document], around: Surroundings) -> list[RouteLoss]:
    """The subnets whose guests may lose their way when these DHCP ports go."""
    addresses: dict[str, set[str]] = {}
    for port in ports:
        for fixed in port["fixed_ips"]:
            addresses.setdefault(fixed["subnet_id"], set()).add(fixed["ip_address"])
    losses = (
        _loss(around.subnets[subnet_id], gone, around.routers)
        for subnet_id, gone in addresses.items()
        # A subnet may have been deleted while the list was being read.
        if subnet_id in around.subnets
    )
    found = [loss for loss in losses if loss is not None]
    return sorted(found, key=lambda loss: (loss.network_id, loss.subnet_id))


def _loss(subnet: Document, gone: Set[str], routers: Set[tuple[str, str]]) -> RouteLoss | None:
    if subnet["ip_version"] != 4:
        return None
    routes = list(_routes_to_service(subnet))
    own = [nexthop for length, nexthop in routes if length]
    # Without a gateway, DHCP agents give out the subnet's own default route.
    defaults = [nexthop for length, nexthop in routes if not length]
    gateway = subnet["gateway_ip"] or next(iter(defaults), None)
    if not gone.isdisjoint(own):
        kind = Loss.HOST_ROUTE
    elif own or (subnet["id"], gateway) in routers:
        return None
    else:
        kind = Loss.NO_ROUTER if gateway else Loss.NO_GATEWAY
    return RouteLoss(subnet["network_id"], subnet["id"], subnet["cidr"], gateway, kind)


def _routes_to_service(subnet: Document) -> Iterator[tuple[int, str]]:
    """Prefix length and next hop of the subnet's own routes that lead to the service address."""
    for route in subnet["host_routes"]:
        with contextlib.suppress(ValueError):  # no network, so nothing is routed there
            network = IPv4Network(route["destination"], strict=False)
            if _SERVICE in network:
                yield network.prefixlen, route["nexthop"]


def with_dhcp(ports: Iterable[Document], around: Surroundings) -> list[str]:
    """Ids of the subnets of these ports that have DHCP enabled, in order."""
    ids = {fixed["subnet_id"] for port in ports for fixed in port["fixed_ips"]}
    return sorted(each for each in ids if around.subnets.get(each, {}).get("enable_dhcp"))


def restoration(port: Document) -> dict[str, Any]:
    """The request that has Neutron create this port again, with the same addresses and owner."""
    # False says something; empty values are what Neutron takes by itself.
    return {
        name: port[name]
        for name in _RESTORED
        if name in port and port[name] not in (None, "", [], {})
    }


def is_there(port: Document, existing: Iterable[Document]) -> bool:
    """Whether a DHCP port, or what took its place, is among those there are."""
    return any(
        other["id"] == port["id"]
        or (
            other["network_id"] == port["network_id"]
            and (
                other["mac_address"] == port["mac_address"]
                # All ports that wait for an agent have the same device_id.
                or other["device_id"] == port["device_id"] != RESERVED
            )
        )
        for other in existing
    )
