"""A real Neutron with ML2/OVN binds ports, and what it writes serves the guests.

The agent takes its records from OVN's southbound database, and then from the store, into which
Neutron's service plugin writes them. Its configuration is in the store, a ZooKeeper, either way.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from ovn_fixtures import OvnHypervisor, cli, listed, ovn_hypervisor, wait_until_not_served

from lab.rig.dhcp import ask_for_address, forget_address
from lab.rig.guest import Guest
from lab.rig.process import LabError, wait_for
from lab.rig.zookeeper import ZooKeeper
from lab.upstream.neutron import ApiServer, Neutron
from ovs_metadata.publisher.agents import AGENT_TYPE

pytestmark = pytest.mark.timeout(600)  # the first run installs Neutron

SUITE = "trixie"
"""Neutron's security groups are stateful, for which Open vSwitch 3.1.0 is too old."""

PROJECT = uuid4().hex

AGENT_DOWN_TIME = 12
"""Seconds; our agent answers Neutron within ten."""


@dataclass
class Cloud:
    """Neutron with ML2/OVN, and a hypervisor of it."""

    ovn: OvnHypervisor
    neutron: Neutron
    api: ApiServer
    network: str = ""
    metadata_ip: str = ""

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Make an API call, once more if an event of OVN has just locked the one SQLite file."""

        def attempt() -> tuple[Any]:
            try:
                return (self.api.call(method, path, body),)
            except LabError as error:
                if f"{path}: 500 " in str(error):
                    raise
                pytest.fail(str(error))

        return wait_for(attempt, f"{method} {path}", 60)[0]

    def trunk(self, parent: str, *sub_ports: dict[str, Any]) -> dict[str, Any]:
        """Have Neutron make a trunk, unless it has: it may respond 500 and have made it."""
        body = {"tenant_id": PROJECT, "port_id": parent, "sub_ports": sub_ports}

        def made() -> dict[str, Any]:
            found = self.api.call("GET", f"trunks?port_id={parent}", None)["trunks"]
            trunk: dict[str, Any] = (
                found[0] if found else self.api.call("POST", "trunks", {"trunk": body})["trunk"]
            )
            return trunk

        return wait_for(made, f"a trunk of {parent}", 60)

    def make(self, kind: str, **values: Any) -> dict[str, Any]:
        """Have Neutron make something."""
        body = {kind: {"tenant_id": PROJECT, **values}}
        made: dict[str, Any] = self.call("POST", f"{kind.replace('_', '-')}s", body)[kind]
        return made

    def make_network(self) -> None:
        """Have Neutron make a network with DHCP, and its metadata port."""
        # Neutron's migrations make these rules, and do not run on SQLite.
        for ethertype in ("IPv4", "IPv6"):
            self.make(
                "default_security_group_rule",
                direction="egress",
                ethertype=ethertype,
                used_in_default_sg=True,
                used_in_non_default_sg=True,
            )
        self.network = self.make("network", name="lab")["id"]
        self.make("subnet", network_id=self.network, cidr="10.0.0.0/24", ip_version=4)
        query = f"network_id={self.network}&device_owner=network:distributed"
        (port,) = self.call("GET", f"ports?{query}")["ports"]
        self.metadata_ip = port["fixed_ips"][0]["ip_address"]

    def boot(self, suffix: str) -> Guest:
        """A guest with a port that Neutron binds, plugged in as Nova does, and served."""
        hypervisor, instance = self.ovn.hypervisor, str(uuid4())
        port = self.make(
            "port",
            network_id=self.network,
            device_id=instance,
            device_owner="compute:nova",
            **{"binding:host_id": hypervisor.prefix},
        )
        assert port["binding:vif_type"] == "ovs", "it is bound"
        guest = hypervisor.add_guest(
            suffix,
            plug=False,
            record=False,
            mac=port["mac_address"],
            address=f"{port['fixed_ips'][0]['ip_address']}/24",
            port_id=port["id"],
            instance_id=instance,
            project_id=PROJECT,
            network_id=self.network,
        )
        guest.plug(hypervisor.ovs, hypervisor.bridge)
        hypervisor.wait_until_served(guest)
        self.ovn.central.wait_for_controllers()
        return guest

    def enable(self, guest: Guest, *, enabled: bool) -> None:
        """Enable or disable a guest's port."""
        self.call("PUT", f"ports/{guest.port_id}", {"port": {"admin_state_up": enabled}})

    def agent(self, kind: str) -> dict[str, Any] | None:
        """An agent of the hypervisor in Neutron's list, None if it is not there."""
        here = self.ovn.hypervisor.prefix
        found = [each for each in self.call("GET", "agents")["agents"] if each["host"] == here]
        return {each["agent_type"]: each for each in found}.get(kind)


@pytest.fixture(scope="module")
def cloud(zookeeper: ZooKeeper) -> Iterator[Cloud]:
    part = f"/{PROJECT}"
    with ovn_hypervisor(SUITE) as ovn, ovn.hypervisor.use_zookeeper(zookeeper, chroot=part):
        ovn.controller.start()
        with Neutron(
            f"{zookeeper.url}{part}", agent_down_time=AGENT_DOWN_TIME, ovn=ovn.central
        ) as neutron:
            try:
                made = Cloud(ovn, neutron, neutron.start_api())
                made.make_network()
                yield made
            finally:
                print(neutron.logs(40))  # noqa: T201 - pytest shows it after a failure


@pytest.fixture(scope="module", params=["ovn", "store"])
def records(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where an agent that runs takes its records from."""
    hypervisor = cloud.ovn.hypervisor
    hypervisor.configure(store={"records": request.param})
    agent = hypervisor.start_agent()
    yield request.param
    agent.stop()


def test_a_guest_is_served_by_what_neutron_writes(cloud: Cloud, records: str) -> None:
    hypervisor, guest = cloud.ovn.hypervisor, cloud.boot(f"on-{records}")
    row = listed(hypervisor, guest.port_id)
    assert (row["device_id"], row["fixed_ips"]) == (guest.instance_id, [guest.ip])
    assert (row["project_id"], row["network_id"]) == (PROJECT, cloud.network)
    forget_address(guest)
    assert f"169.254.169.254 via {cloud.metadata_ip}" in ask_for_address(guest)
    for ipv6 in (False, True):
        assert guest.identity(ipv6=ipv6) == guest.instance_id

    cloud.enable(guest, enabled=False)
    wait_until_not_served(hypervisor, guest)
    cloud.enable(guest, enabled=True)
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id

    cloud.call("DELETE", f"ports/{guest.port_id}")
    wait_until_not_served(hypervisor, guest)


def test_a_trunks_sub_ports_come_and_go(cloud: Cloud, records: str) -> None:
    guest = cloud.boot(f"trunk-{records}")
    sub_port = cloud.make("port", network_id=cloud.network)
    entry = {"port_id": sub_port["id"], "segmentation_type": "vlan", "segmentation_id": 42}
    trunk = cloud.trunk(guest.port_id, entry)

    def place() -> tuple[object, ...] | None:
        """Where the sub-port is served, and for which instance."""
        for each in json.loads(cli(cloud.ovn.hypervisor, "port", "list", "--format", "json")):
            here = each.get("here", {})
            if each["port_id"] == sub_port["id"] and here.get("state") == "served":
                return here["ofport"], here["vlan"], here["instance_id"]
        return None

    ofport = cloud.ovn.hypervisor.ovs.ofport(guest.tap)
    wait_for(lambda: place() == (ofport, 42, guest.instance_id), "the sub-port to be served", 60)
    cloud.call("PUT", f"trunks/{trunk['id']}/remove_subports", {"sub_ports": [entry]})
    wait_for(lambda: place() is None, "the sub-port to leave", 60)
    cloud.call("PUT", f"trunks/{trunk['id']}/add_subports", {"sub_ports": [entry]})
    wait_for(place, "the sub-port to be served again", 60)
    cloud.call("DELETE", f"trunks/{trunk['id']}")
    wait_for(lambda: place() is None, "the sub-port to leave with its trunk", 60)


def test_neutrons_list_of_agents_shows_ours_alive_and_dead(cloud: Cloud, records: str) -> None:
    """Through OVN's database, or through the service plugin beside OVN's own agents."""
    kind = {"ovn": "OVN Metadata agent", "store": AGENT_TYPE}[records]
    if records == "store":
        cloud.neutron.start_periodic_workers()

    def alive() -> bool | None:
        shown = cloud.agent(kind)
        return bool(shown["alive"]) if shown else None

    wait_for(alive, "the agent to be alive", 60)
    assert cloud.agent("OVN Controller agent")
    if records == "ovn":
        _hide(cloud)
        wait_for(alive, "the agent to be alive again", 30)
    cloud.ovn.hypervisor.processes["agent"].stop()
    wait_for(lambda: alive() is False, "the agent to be dead", 2 * AGENT_DOWN_TIME + 30)


def _hide(cloud: Cloud) -> None:
    """Have neutron-ovn-agent run here and go, as in a migration, and remove what it has left."""
    sbctl, here = cloud.ovn.central.sbctl, cloud.ovn.hypervisor.prefix
    keys = ('"neutron:ovn-neutron-agent-id"', '"neutron:ovn-neutron-agent-sb-cfg"')
    sbctl(
        "set", "chassis_private", here, f"external_ids:{keys[0]}=x", f'external_ids:{keys[1]}="0"'
    )
    wait_for(lambda: cloud.agent("OVN Neutron agent"), "neutron-ovn-agent to be shown")
    wait_for(
        lambda: not (cloud.agent("OVN Metadata agent") or {"alive": True})["alive"],
        "ours to be taken for dead",
        2 * AGENT_DOWN_TIME + 30,
    )
    sbctl("remove", "chassis_private", here, "external_ids", *keys)
