"""The devstack plugin: all its phases, and real services on what it has configured.

devstack's own functions are stand-ins; pip, ZooKeeper, Neutron, Nova, Open vSwitch and the agent
are real. One node has the API servers, another is a hypervisor and nothing else.
"""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import Factory

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor, instance_of
from lab.rig.process import LabError, free_port, run, wait_for
from lab.rig.relay import Relay
from lab.upstream.devstack_node import ROOT, DevstackNode
from lab.upstream.devstack_services import DevstackNeutron, DevstackNova, read_options
from lab.upstream.neutron import HOSTS, ApiServer
from ovs_metadata.store.url import parse_store_url

ALL_IN_ONE = "key,n-api,n-api-meta,n-cpu,q-svc,q-agt,q-dhcp,q-l3,q-meta"
CONTROLLER = "key,n-api,n-api-meta,q-svc,q-dhcp,q-l3,q-meta"
COMPUTE = "n-cpu,q-agt"
PASSWORD = "the-service-password"
PREFIX = "agent.openstack.metadata"

DISABLED = {
    *("q-meta", "neutron-metadata-agent"),
    *("q-ovn-metadata-agent", "neutron-ovn-metadata-agent"),
}

L3_AGENT_SAYS = """\
import sys
from neutron.conf.agent.l3 import config
from oslo_config import cfg
cfg.CONF.register_opts(config.OPTS)
cfg.CONF(["--config-file", sys.argv[1]])
print(cfg.CONF.enable_metadata_proxy)
"""


class Nodes:
    """Makes nodes; shows what happened on them after a failure, and removes them."""

    def __init__(self) -> None:
        self.made: list[DevstackNode] = []

    def __call__(self, services: str, **options: Any) -> DevstackNode:
        self.made.append(DevstackNode(services, **options))
        return self.made[-1]


@pytest.fixture
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    """Makes nodes that last as long as the test."""
    failed = request.session.testsfailed
    make = Nodes()
    yield make
    for node in make.made:
        if request.session.testsfailed > failed:
            print(node.report())  # noqa: T201 - pytest shows it
        node.close()


def enabled(node: DevstackNode) -> set[str]:
    return set(node.settings("ENABLED_SERVICES")["ENABLED_SERVICES"].split(","))


# What the settings make of the services that are enabled.


def test_one_machine_gets_everything_and_loses_neutrons_agent(nodes: Nodes) -> None:
    node = nodes(ALL_IN_ONE)
    services = set(ALL_IN_ONE.split(",")) - {"q-meta"}
    assert enabled(node) == services | {"ovs-metadata-agent", "ovs-metadata-zookeeper"}
    assert set(node.settings("DISABLED_SERVICES")["DISABLED_SERVICES"].split(",")) >= DISABLED


def test_a_hypervisor_gets_the_agent_and_the_controllers_store(nodes: Nodes) -> None:
    node = nodes(COMPUTE, SERVICE_HOST="192.0.2.7")
    assert enabled(node) == {"n-cpu", "q-agt", "ovs-metadata-agent"}
    settings = node.settings("OVS_METADATA_STORE_URL", "OVS_METADATA_BRIDGE")
    assert settings["OVS_METADATA_STORE_URL"] == "zookeeper://192.0.2.7:2181"
    assert settings["OVS_METADATA_BRIDGE"] == "br-int"


def test_with_a_store_of_their_own_users_get_no_zookeeper(nodes: Nodes) -> None:
    node = nodes(ALL_IN_ONE, OVS_METADATA_STORE_URL="zookeeper://192.0.2.1:2181/lab")
    assert "ovs-metadata-zookeeper" not in enabled(node)
    url = node.settings("OVS_METADATA_STORE_URL")["OVS_METADATA_STORE_URL"]
    assert url == "zookeeper://192.0.2.1:2181/lab"


def test_what_a_user_has_disabled_stays_so(nodes: Nodes) -> None:
    node = nodes(ALL_IN_ONE, DISABLED_SERVICES="ovs-metadata-agent")
    assert "ovs-metadata-agent" not in enabled(node)


def test_ipv6_addresses_make_good_urls(nodes: Nodes) -> None:
    node = nodes(COMPUTE, SERVICE_HOST="[2001:db8::7]")
    settings = node.settings("OVS_METADATA_STORE_URL", "OVS_METADATA_NOVA_URL")
    parse_store_url(settings["OVS_METADATA_STORE_URL"])
    assert settings["OVS_METADATA_STORE_URL"] == "zookeeper://[2001:db8::7]:2181"
    assert settings["OVS_METADATA_NOVA_URL"] == "http://[2001:db8::7]:8775"


@pytest.mark.parametrize(
    ("extensions", "stays"), [("metadata", False), ("metadata,qos", True), ("", True)]
)
def test_ovns_agent_goes_if_metadata_is_all_it_does(
    nodes: Nodes, extensions: str, stays: bool
) -> None:
    node = nodes("n-cpu,q-ovn-agent", OVN_AGENT_EXTENSIONS=extensions)
    assert ("q-ovn-agent" in enabled(node)) == stays


def test_where_zookeeper_has_no_package_one_must_be_named(nodes: Nodes) -> None:
    node = nodes(CONTROLLER, NODE_PACKAGES="rpm")
    with pytest.raises(LabError, match="set OVS_METADATA_STORE_URL"):
        node.script("stack")


def test_a_node_without_any_of_it_is_left_alone(nodes: Nodes) -> None:
    node = nodes("c-vol,key")
    before = files(node)
    for script in ("stack", "unstack", "clean"):
        node.script(script)
    assert files(node) == before


def test_all_variables_are_described() -> None:
    text = (ROOT / "devstack" / "settings").read_text() + (ROOT / "devstack/plugin.sh").read_text()
    # A user may set everything that has a default.
    variables = set(re.findall(r"\$\{(OVS_METADATA_\w+):?-", text))
    described = set(
        re.findall(r"^\| `(OVS_METADATA_\w+)`", (ROOT / "devstack/README.md").read_text(), re.M)
    )
    assert described == variables
    sample = (ROOT / "devstack" / "local.conf.sample").read_text()
    assert set(re.findall(r"OVS_METADATA_\w+", sample)) <= variables


# The whole of it.


def files(node: DevstackNode) -> set[Path]:
    """All there is on a node, but for logs and what Python and git's users leave in a checkout."""
    own = {node.logs, node.root / "node"}
    return {
        path
        for path in node.root.rglob("*")
        if not own & {path, *path.parents}
        and path != node.services
        and not re.search(r"__pycache__|\.egg-info", str(path))
    }


def configuration(node: DevstackNode) -> list[dict[tuple[str, str], str]]:
    """The options in the files of Nova and Neutron."""
    return [
        read_options(path.read_text()) for path in (node.neutron_conf, node.nova_conf, node.l3_conf)
    ]


def make_guest(api: ApiServer, hypervisor: Hypervisor) -> Guest:
    """A guest of that hypervisor with a port of Neutron's, not plugged in yet."""
    project, instance = uuid.uuid4().hex, str(uuid.uuid4())
    network = {"name": "lab", "tenant_id": project}
    network_id = api.call("POST", "networks", {"network": network})["network"]["id"]
    subnet = {
        "network_id": network_id,
        "cidr": "10.0.0.0/24",
        "ip_version": 4,
        "enable_dhcp": False,
        "tenant_id": project,
    }
    api.call("POST", "subnets", {"subnet": subnet})
    wanted = {
        "network_id": network_id,
        "tenant_id": project,
        "device_id": instance,
        "device_owner": "compute:nova",
        "binding:host_id": HOSTS[0],
    }
    port = api.call("POST", "ports", {"port": wanted})["port"]
    return hypervisor.add_guest(
        "guest",
        plug=False,
        record=False,
        mac=port["mac_address"],
        address=f"{port['fixed_ips'][0]['ip_address']}/24",
        port_id=port["id"],
        instance_id=instance,
        project_id=project,
        network_id=network_id,
    )


def wait_until_published(node: DevstackNode, neutron: DevstackNeutron, guest: Guest) -> None:
    """Wait for the guest's port record; shows Neutron's logs if none comes."""
    try:
        wait_for(
            # Fails while there is none.
            lambda: node.command("ovs-metadata", "port", "get", guest.port_id),
            "Neutron to publish the port",
            60,
        )
    except LabError as error:
        raise LabError(f"{error}\n{neutron.logs(60)}") from error


def check_controller(node: DevstackNode, printed: str) -> None:
    """Files of Neutron, Nova and the L3 agent, the store's configuration; and no secret shown."""
    neutron, nova, _ = configuration(node)
    assert neutron["DEFAULT", "service_plugins"] == "router,ovs_metadata"
    assert nova["neutron", "service_metadata_proxy"] == "True"
    assert nova["neutron", "region_name"] == "RegionOne"
    secret = nova["neutron", "metadata_proxy_shared_secret"]
    assert re.fullmatch("[0-9a-f]{32}", secret)
    says = run(node.devstack_venv / "bin" / "python", "-c", L3_AGENT_SAYS, node.l3_conf)
    assert says == "False\n"
    mn_conf = ("mn-conf", "get", "-t", "default")
    assert node.command(*mn_conf, f"{PREFIX}.enabled") == "true\n"
    assert node.command(*mn_conf, f"{PREFIX}.nova_metadata_url") == "http://127.0.0.1:8775\n"
    found = node.command(*mn_conf, "--show-secrets", f"{PREFIX}.shared_secret")
    assert found == f"{secret}\n"
    assert secret not in printed
    assert PASSWORD not in printed
    arguments = (node.logs / "iniset.log").read_text()
    assert "service_metadata_proxy True" in arguments
    assert secret not in arguments
    assert PASSWORD not in arguments
    auth = node.conf_dir / "zookeeper-auth"
    assert auth.read_text() == f"ovs-metadata:{PASSWORD}\n"
    assert (auth.stat().st_mode & 0o777, auth.owner()) == (0o600, "nobody")
    # Nova's file is written by another job of devstack's until that is waited for.
    assert (node.logs / "async.log").read_text() == "Waited for configure_neutron_nova\n"
    assert set(node.running()) == {"ovs-metadata-zookeeper"}


@pytest.mark.timeout(900)
def test_two_nodes_serve_a_guest_and_nothing_is_left(lab_hypervisor: Factory, nodes: Nodes) -> None:
    zookeeper_port = free_port()
    controller = nodes(
        CONTROLLER,
        SERVICE_PASSWORD=PASSWORD,
        OVS_METADATA_ZOOKEEPER_PORT=str(zookeeper_port),
    )
    controller.prepare()
    untouched = files(controller), configuration(controller)
    check_controller(controller, controller.script("stack"))

    hypervisor = lab_hypervisor()
    hypervisor.start()
    compute = nodes(
        COMPUTE,
        namespace=hypervisor.namespace,
        SERVICE_PASSWORD=PASSWORD,
        OVS_METADATA_HOST=hypervisor.prefix,
        OVS_METADATA_OVS_RUNDIR=hypervisor.ovs.rundir,
        OVS_METADATA_NAMESPACE=hypervisor.metadata_namespace,
    )
    compute.prepare()
    bare = files(compute), configuration(compute)
    with (
        Relay(hypervisor.namespace, 2181, f"127.0.0.1:{zookeeper_port}"),
        DevstackNova(controller) as nova,
        Relay(hypervisor.namespace, 8775, nova.url.removeprefix("http://")),
        DevstackNeutron(controller) as neutron,
    ):
        compute.script("stack")
        assert set(compute.running()) == {"ovs-metadata-agent"}
        # Only our own file is changed there.
        assert configuration(compute) == bare[1]
        hypervisor.wait_until_serving(60)

        guest = make_guest(neutron.start_api(), hypervisor)
        nova.create_instances([instance_of(guest)])
        wait_until_published(controller, neutron, guest)
        guest.plug(hypervisor.ovs, hypervisor.bridge)
        hypervisor.wait_until_served(guest)
        assert guest.identity() == guest.instance_id

        compute.script("unstack")
        assert compute.running() == {}
        assert hypervisor.flows() == ""
        assert not Path("/run/netns", hypervisor.metadata_namespace).exists()
        assert "metadata" not in hypervisor.ovs.vsctl("list-ports", hypervisor.bridge).split()
        assert guest.identity() is None
        compute.script("clean")
        assert (files(compute), configuration(compute)) == bare

    controller.script("unstack")
    assert controller.running() == {}
    assert configuration(controller)[1:] == untouched[1][1:]
    assert configuration(controller)[0]["DEFAULT", "service_plugins"] == "router"
    controller.script("clean")
    assert files(controller) == untouched[0]
