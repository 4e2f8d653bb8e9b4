"""DHCP ports, with agents, subnets and routers, through Neutron's API by openstacksdk.

One connection, used by one thread; nothing is kept between calls.
"""

from collections.abc import Iterator
from typing import Any

from openstack import exceptions as sdk

from ovs_metadata.cli.cleanup.dhcp_ports import (
    AGENT,
    DHCP_OWNER,
    DHCP_PORT,
    ROUTER_OWNERS,
    ROUTER_PORT,
    SUBNET,
    DhcpAgent,
    Surroundings,
)
from ovs_metadata.publisher.errors import NeutronRefused
from ovs_metadata.publisher.neutron_api import RETRIES, connect, document, documents, reported
from ovs_metadata.publisher.paging import PAGE

_AGENT_TYPE = "DHCP agent"
_NETWORK = {"id": str}


class DhcpNeutron:
    """Neutron, as an administrator sees it.

    Args:
        cloud: a cloud of clouds.yaml; None is the one that OS_CLOUD or the other OS_* name.
        endpoint: Neutron's URL, to be used without any authentication, in a lab.

    Raises:
        NeutronUnavailable: from any method: the credentials are missing or not enough, or Neutron
            does not answer.
    """

    def __init__(self, cloud: str | None = None, endpoint: str | None = None) -> None:
        self._network: Any = reported(lambda: connect(cloud, endpoint).network)

    def ports(self) -> list[dict[str, Any]]:
        """All DHCP ports."""
        return list(self._list("ports", DHCP_PORT, device_owner=DHCP_OWNER))

    def network_id(self, name_or_id: str) -> str | None:
        """The id of a network, None when there is none of that id or name."""
        network = reported(lambda: self._network.find_network(name_or_id, ignore_missing=True))
        return str(network.id) if network else None

    def surroundings(self) -> Surroundings:
        """DHCP agents, subnets and router interfaces."""
        routers = self._list("ports", ROUTER_PORT, device_owner=ROUTER_OWNERS)
        return Surroundings(
            agents=tuple(self._agents()),
            subnets={subnet["id"]: subnet for subnet in self._list("subnets", SUBNET)},
            routers=frozenset(
                (fixed["subnet_id"], fixed["ip_address"])
                for port in routers
                for fixed in port["fixed_ips"]
            ),
        )

    def delete(self, port_id: str) -> bool:
        """Delete a port; False when it was gone already. Raises NeutronRefused."""
        answer = self._ask("DELETE", f"/ports/{port_id}")
        if answer.status_code == 404:
            return False
        _checked(answer)
        return True

    def create(self, port: dict[str, Any]) -> str:
        """Make a port and return its id. Raises NeutronRefused."""
        answer = self._ask("POST", "/ports", json={"port": port})
        _checked(answer)
        return str(document(answer, {"port": {"id": str}})["port"]["id"])

    def _agents(self) -> Iterator[DhcpAgent]:
        for agent in self._list("agents", AGENT, agent_type=_AGENT_TYPE):
            hosted = self._list(f"agents/{agent['id']}/dhcp-networks", _NETWORK, key="networks")
            yield DhcpAgent(
                agent_id=agent["id"],
                host=agent["host"],
                active=bool(agent.get("alive") and agent.get("admin_state_up")),
                networks=frozenset(network["id"] for network in hosted),
            )

    def _list(
        self, path: str, shape: object, key: str | None = None, **query: object
    ) -> Iterator[dict[str, Any]]:
        """All items of a collection, a page at a time.

        There are none if Neutron lacks the extension of the collection (agents, for example).
        """
        key = key or path
        marker: dict[str, object] = {}
        while True:
            answer = self._ask("GET", f"/{path}", params={**query, "limit": PAGE, **marker})
            if answer.status_code == 404 and not marker:
                return
            reported(lambda answer=answer: sdk.raise_from_response(answer))  # type: ignore[misc]
            found, more = documents(answer, key, shape)
            yield from found
            if not found or not more:
                return
            marker = {"marker": found[-1]["id"]}

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        # Only what changes nothing is asked twice: a port made twice would be two.
        retries = {"connect_retries": RETRIES} if method == "GET" else {}
        return reported(
            lambda: self._network.request(path, method, raise_exc=False, **retries, **options)
        )


def _checked(answer: Any) -> None:
    try:
        sdk.raise_from_response(answer)
    except sdk.HttpException as error:
        raise NeutronRefused(" ".join(str(error).split())) from error
