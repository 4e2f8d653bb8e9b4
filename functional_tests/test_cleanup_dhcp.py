"""`ovs-metadata cleanup dhcp-ports` with the real Neutron, which knows agents that do not run."""

import json
import os
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.upstream.neutron import HOSTS, ApiServer, Neutron
from ovs_metadata.cli.cleanup import neutron as dhcp_neutron

pytestmark = pytest.mark.timeout(600)  # the first run installs Neutron

BIN = Path(sys.executable).parent
SCRIPT = Path(__file__).resolve().parents[1] / "tools/metadata/remove_dhcp_ports.sh"
DIFFERENT = 5


def device_id(host: str, network_id: str) -> str:
    """What the DHCP agent of a host calls itself on a network (neutron.common.utils)."""
    return f"dhcp{uuid.uuid5(uuid.NAMESPACE_DNS, host.split('.', maxsplit=1)[0])}-{network_id}"


@dataclass
class Cloud:
    """A Neutron, and what tests make in it: networks with a subnet and DHCP ports each."""

    neutron: Neutron
    api: ApiServer

    def network(self, name: str, **subnet: Any) -> tuple[str, str]:
        """A network with a subnet; returns their ids."""
        document = {"network": {"name": name}}
        network_id = self.api.call("POST", "networks", document)["network"]["id"]
        values = {"network_id": network_id, "cidr": "10.1.0.0/24", "ip_version": 4, **subnet}
        made = self.api.call("POST", "subnets", {"subnet": values})["subnet"]
        return network_id, made["id"]

    def port(self, network_id: str, host: str = HOSTS[0], **values: Any) -> dict[str, Any]:
        """The port that a DHCP agent would make, or what `values` makes of it."""
        port = {
            "network_id": network_id,
            "device_owner": "network:dhcp",
            "device_id": device_id(host, network_id),
            "binding:host_id": host,
            **values,
        }
        made: dict[str, Any] = self.api.call("POST", "ports", {"port": port})["port"]
        return made

    def ports(self, **query: str) -> dict[str, dict[str, Any]]:
        """Ports by id."""
        given = "&".join(f"{name}={value}" for name, value in query.items())
        return {port["id"]: port for port in self.api.call("GET", f"ports?{given}")["ports"]}

    def dhcp_ports(self) -> dict[str, dict[str, Any]]:
        return self.ports(device_owner="network:dhcp")

    def cleanup(
        self, *arguments: str | Path, status: int = 0, **run: Any
    ) -> subprocess.CompletedProcess[str]:
        command = (BIN / "ovs-metadata", "cleanup", "dhcp-ports")
        return self.run(*command, "--os-endpoint", self.api.url, *arguments, status=status, **run)

    def run(
        self, *command: str | Path, status: int, **run: Any
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            # Tables whose lines are not folded, and our commands in the path.
            env={"PATH": f"{BIN}:{os.environ['PATH']}"},
            **run,
        )
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done

    def clean_up(self) -> None:
        for agent in self.api.call("GET", "agents?agent_type=DHCP%20agent")["agents"]:
            self.api.call("DELETE", f"agents/{agent['id']}")
        for port_id in self.ports():
            self.api.call("DELETE", f"ports/{port_id}")
        for network in self.api.call("GET", "networks")["networks"]:
            self.api.call("DELETE", f"networks/{network['id']}")


@pytest.fixture(scope="module")
def running_cloud() -> Iterator[Cloud]:
    with Neutron(None) as neutron:
        yield Cloud(neutron, neutron.start_api())


@pytest.fixture
def cloud(running_cloud: Cloud) -> Iterator[Cloud]:
    yield running_cloud
    running_cloud.clean_up()


def results(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What became of each port, by the JSON of the command."""
    return {port["id"]: port["result"] for port in json.loads(done.stdout)["ports"]}


def test_without_dhcp_ports_there_is_nothing_to_do(cloud: Cloud, tmp_path: Path) -> None:
    for arguments in ((), ("--yes",)):
        done = cloud.cleanup(*arguments, cwd=tmp_path)
        assert done.stdout == "0 DHCP ports\n"
        assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_would_go_and_changes_nothing(cloud: Cloud, tmp_path: Path) -> None:
    network, subnet = cloud.network("isolated", gateway_ip=None)
    port = cloud.port(network)
    instance = cloud.port(network, device_owner="compute:nova", device_id="instance")
    done = cloud.cleanup(status=DIFFERENT, cwd=tmp_path)
    assert port["id"] in done.stdout
    assert instance["id"] not in done.stdout
    assert "1 to be removed" in done.stdout
    assert f"subnet {subnet} (10.1.0.0/24) of network {network} has no gateway" in done.stderr
    assert "1 subnets of these ports have DHCP enabled" in done.stderr
    assert "--yes" in done.stderr
    assert cloud.dhcp_ports().keys() == {port["id"]}
    assert list(tmp_path.iterdir()) == []


def test_the_script_removes_them_all_and_they_can_be_brought_back(
    cloud: Cloud, tmp_path: Path
) -> None:
    """From a network with a gateway, from one of two agents, and one held in reserve."""
    one, _ = cloud.network("one")
    two, _ = cloud.network("two", cidr="10.2.0.0/24")
    before = [
        cloud.port(one, HOSTS[0], name="first", description="made by hand"),
        cloud.port(one, HOSTS[1]),
        cloud.port(two, device_id="reserved_dhcp_port", admin_state_up=False),
    ]
    kept = cloud.port(one, device_owner="compute:nova", device_id="instance")
    cloud.run(
        *(SCRIPT, "--os-endpoint", cloud.api.url),
        status=0,
        cwd=tmp_path,
    )
    assert cloud.ports().keys() == {kept["id"]}

    (restore_file,) = tmp_path.iterdir()
    assert restore_file.name.startswith("dhcp-ports-")
    assert stat.S_IMODE(restore_file.stat().st_mode) == 0o600
    looked = cloud.cleanup("--restore", restore_file, status=DIFFERENT)
    assert "3 to be restored" in looked.stdout
    assert cloud.dhcp_ports() == {}
    assert "3 restored" in cloud.cleanup("--restore", restore_file, "--yes").stdout
    same = (
        *("network_id", "mac_address", "fixed_ips", "device_id", "binding:host_id"),
        *("name", "description", "admin_state_up", "project_id", "binding:vif_type"),
    )

    def facts(ports: Any) -> list[list[Any]]:
        return sorted([[port[name] for name in same] for port in ports], key=str)

    after = cloud.dhcp_ports().values()
    assert facts(after) == facts(before)
    assert "3 is there" in cloud.cleanup("--restore", restore_file, "--yes").stdout
    assert len(cloud.dhcp_ports()) == 3


def test_ports_are_chosen_by_network_and_by_agent(cloud: Cloud) -> None:
    one, _ = cloud.network("one")
    two, _ = cloud.network("two")
    ports = {
        (network, host): cloud.port(network, host)["id"] for network in (one, two) for host in HOSTS
    }

    def chosen(*arguments: str) -> set[str]:
        return set(results(cloud.cleanup("--format", "json", *arguments, status=DIFFERENT)))

    assert chosen() == set(ports.values())
    assert chosen("--network", "one") == {ports[one, host] for host in HOSTS}
    assert chosen("--network", one, "--network", two) == set(ports.values())
    assert chosen("--agent", HOSTS[1]) == {ports[one, HOSTS[1]], ports[two, HOSTS[1]]}
    assert chosen("--agent", HOSTS[1], "--network", two) == {ports[two, HOSTS[1]]}
    # Unbound from its host, the port still names its agent.
    cloud.api.call("PUT", f"ports/{ports[one, HOSTS[0]]}", {"port": {"binding:host_id": ""}})
    assert ports[one, HOSTS[0]] in chosen("--agent", HOSTS[0])
    cloud.cleanup("--agent", "no-such-host")
    assert "there is no network three" in cloud.cleanup("--network", "three", status=4).stderr


def test_a_live_agent_that_would_create_them_again_prevents_it(
    cloud: Cloud, tmp_path: Path
) -> None:
    network, _ = cloud.network("served", enable_dhcp=False)
    elsewhere, _ = cloud.network("not-served")
    kept, gone = cloud.port(network)["id"], cloud.port(elsewhere)["id"]
    kind, binary = "DHCP agent", "neutron-dhcp-agent"
    alive = cloud.neutron.add_agent(kind, binary, HOSTS[0])
    dead = cloud.neutron.add_agent(kind, binary, HOSTS[1], alive=False)
    for agent in (alive, dead):
        cloud.api.call("POST", f"agents/{agent}/dhcp-networks", {"network_id": network})

    refused = cloud.cleanup("--yes", "--format", "json", status=1, cwd=tmp_path)
    document = json.loads(refused.stdout)
    assert document["refused"]
    assert document["agents_that_recreate"] == [
        {"id": alive, "host": HOSTS[0], "networks": [network]}
    ]
    assert "nothing was removed" in refused.stderr
    assert cloud.dhcp_ports().keys() == {kept, gone}
    assert list(tmp_path.iterdir()) == []
    # It does not serve every network.
    cloud.cleanup("--yes", "--network", elsewhere, cwd=tmp_path)
    assert cloud.dhcp_ports().keys() == {kept}
    # Nor does one that its administrator has disabled.
    cloud.api.call("PUT", f"agents/{alive}", {"agent": {"admin_state_up": False}})
    cloud.cleanup(status=DIFFERENT)
    cloud.api.call("PUT", f"agents/{alive}", {"agent": {"admin_state_up": True}})
    forced = cloud.cleanup("--yes", "--force", "--restore-file", tmp_path / "forced")
    assert "Warning: the DHCP agent on hypervisor-1 is alive" in forced.stderr
    assert cloud.dhcp_ports() == {}


def test_who_loses_the_route_to_the_service(cloud: Cloud) -> None:
    """By what real Neutron says of subnets, host routes and routers."""
    link_local = {"destination": "169.254.169.254/32", "nexthop": "0.0.0.0"}
    through_port = {"destination": "169.254.169.254/32", "nexthop": "10.1.0.2"}
    default = {"destination": "0.0.0.0/0", "nexthop": "10.1.0.9"}
    subnets: dict[str, dict[str, Any]] = {
        "routed": {},
        "no-gateway": {"gateway_ip": None},
        "no-router": {},
        "link-local": {"gateway_ip": None, "host_routes": [link_local]},
        "through-port": {"host_routes": [through_port]},
        "default-route": {"gateway_ip": None, "host_routes": [default]},
        "ipv6": {"cidr": "2001:db8::/64", "ip_version": 6, "gateway_ip": None},
    }
    networks = {}
    for name, values in subnets.items():
        networks[name], subnet = cloud.network(name, **values)
        fixed = {} if name == "ipv6" else {"ip_address": "10.1.0.2"}
        cloud.port(networks[name], fixed_ips=[{"subnet_id": subnet, **fixed}])
        if name in {"routed", "through-port"}:
            cloud.port(
                networks[name],
                device_owner="network:router_interface",
                device_id="router",
                fixed_ips=[{"subnet_id": subnet, "ip_address": "10.1.0.1"}],
            )
    done = cloud.cleanup("--format", "json", status=DIFFERENT)
    losses = {each["network_id"]: each for each in json.loads(done.stdout)["route_losses"]}
    kinds = {name: losses.get(network_id, {}).get("kind") for name, network_id in networks.items()}
    assert kinds == {
        "routed": None,
        "no-gateway": "no_gateway",
        "no-router": "no_router",
        "link-local": None,
        "through-port": "host_route",
        "default-route": "no_router",
        "ipv6": None,
    }
    assert losses[networks["default-route"]]["gateway"] == "10.1.0.9"


def test_what_fails_does_not_keep_the_rest_from_going(cloud: Cloud, tmp_path: Path) -> None:
    """Of three ports to restore, one's address is taken, and another's network is gone."""
    one, subnet = cloud.network("one")
    two, _ = cloud.network("two")
    three, _ = cloud.network("three")
    taken = cloud.port(one)
    for network in (two, three):
        cloud.port(network)
    restore_file = tmp_path / "ports.json"
    cloud.cleanup("--yes", "--restore-file", restore_file)
    cloud.port(one, device_owner="compute:nova", device_id="i", fixed_ips=taken["fixed_ips"])
    cloud.api.call("DELETE", f"networks/{two}")
    done = cloud.cleanup("--restore", restore_file, "--yes", "--format", "json", status=1)
    outcome = {port["network_id"]: port for port in json.loads(done.stdout)["ports"]}
    assert {network: port["result"] for network, port in outcome.items()} == {
        one: "failed",
        two: "failed",
        three: "restored",
    }
    address = taken["fixed_ips"][0]["ip_address"]
    assert address in outcome[one]["detail"]
    assert subnet in outcome[one]["detail"]
    assert two in outcome[two]["detail"]


def test_nothing_is_removed_without_a_restore_file(cloud: Cloud, tmp_path: Path) -> None:
    network, _ = cloud.network("one")
    port = cloud.port(network)
    existing = tmp_path / "ports.json"
    existing.write_text("precious")
    for path in (existing, tmp_path / "missing" / "ports.json"):
        done = cloud.cleanup("--yes", "--restore-file", path, status=1)
        assert f"cannot write restore file {path}" in done.stderr
    assert existing.read_text() == "precious"
    assert cloud.dhcp_ports().keys() == {port["id"]}


def test_collections_are_read_to_their_last_page(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dhcp_neutron, "PAGE", 2)
    made = [cloud.network(f"network-{number}") for number in range(4)]
    ports = {cloud.port(network)["id"] for network, _ in made}
    agent = cloud.neutron.add_agent("DHCP agent", "neutron-dhcp-agent", HOSTS[0])
    for network, _ in made[:3]:
        cloud.api.call("POST", f"agents/{agent}/dhcp-networks", {"network_id": network})
    neutron = dhcp_neutron.DhcpNeutron(endpoint=cloud.api.url)
    found = neutron.ports()
    assert len(found) == len(ports)
    assert {port["id"] for port in found} == ports
    around = neutron.surroundings()
    assert around.subnets.keys() == {subnet for _, subnet in made}
    assert [each.networks for each in around.agents] == [{network for network, _ in made[:3]}]
