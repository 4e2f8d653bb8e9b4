"""`ovs-metadata migrate` from a real Neutron metadata agent and its haproxy, and back to them.

All the while a guest asks, over four connections at once. What may fail is stated in
docs/migration.md, and measured here; `pytest --log-cli-level=INFO` shows the figures.
"""

import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import Factory
from migrate_support import CLIENTS, MAX_GAP, Cloud, migrate_command
from netaddr import EUI

from lab.load.steady_load import REQUEST, TOOLS, Load
from lab.rig.guest_client import ANY_IPV4, accepted, begin
from lab.rig.hypervisor import SECRET
from lab.rig.process import LabError, Process, run, stopped_process, wait_for
from lab.upstream.neutron_metadata_agent import NeutronMetadataAgent, NeutronPort
from ovs_metadata.agent.config.schema import MASK
from ovs_metadata.cli.migrate.switchover import Unguarded
from ovs_metadata.host.address import METADATA_PORT, METADATA_PORT_MAC, SERVICE_IPV4, SERVICE_PORT
from ovs_metadata.store.layout import AGENTS

LOG = logging.getLogger(__name__)

DHCP_PORT = "10.0.0.2"
DHCP_MAC = "fa:16:3e:00:00:02"
OTHER_ADDRESS = "10.0.0.77/24"
SLOW_PORT = 8776
BY_DHCP_PORT, ON_THE_LINK, STARTED_WITH_US = (
    "by the DHCP port's route",
    "on the link",
    "on the link, started with us",
)


@pytest.fixture
def cloud(lab_hypervisor: Factory) -> Iterator[Cloud]:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.deploy(enabled=None, nova_metadata_url=None, shared_secret=None)
    hypervisor.start_metadata_service()
    dhcp = hypervisor.add_guest("dhcp", mac=DHCP_MAC, address=f"{DHCP_PORT}/24", record=False)
    # Neutron's own ports have no instance.
    hypervisor.ovs.vsctl("remove", "interface", dhcp.tap, "external_ids", "vm-uuid")
    hypervisor.ovs.vsctl("remove", "interface", dhcp.tap, "external_ids", "attached-mac")
    dhcp.run("ip", "addr", "add", f"{SERVICE_IPV4}/32", "dev", "eth0")
    guest = hypervisor.add_guest("guest")
    with ExitStack() as stack:
        neutron = stack.enter_context(
            NeutronMetadataAgent(
                {guest.ip: NeutronPort(guest.instance_id, guest.project_id)},
                nova_url=hypervisor.nova,
                secret=SECRET,
                listen=(SERVICE_IPV4, SERVICE_PORT),
                namespace=dhcp.name,
                agent_namespace=hypervisor.namespace,
                threads=2,
            )
        )
        hypervisor.spawn("agent", *hypervisor.command("agent"))
        made = Cloud(hypervisor, guest, neutron.config, lambda: neutron.haproxy.pid)
        wait_for(made.served_by_neutron, "Neutron to serve the guest", 30)
        wait_for(lambda: list(hypervisor.store.announced(AGENTS)), "our agent to say it lives", 30)
        yield made


@pytest.mark.parametrize("way", [BY_DHCP_PORT, ON_THE_LINK, STARTED_WITH_US])
def test_there_and_back(cloud: Cloud, way: str) -> None:
    hypervisor, guest = cloud.hypervisor, cloud.guest
    if way == BY_DHCP_PORT:
        guest.run("ip", "route", "replace", f"{SERVICE_IPV4}/32", "via", DHCP_PORT)
    ini = ("--metadata-agent-ini", cloud.ini)
    planned = json.loads(cloud.migrate("plan", *ini, "--format", "json"))
    prefix = "agent.openstack.metadata"
    assert planned["configuration"] == {
        f"{prefix}.nova_metadata_url": hypervisor.nova,
        f"{prefix}.shared_secret": MASK,
    }
    assert {check["state"] for check in planned["checks"] if check["name"] != "store"} == {"ok"}
    assert SECRET not in cloud.migrate("apply", *ini)
    written = run(*hypervisor.mn_conf("get", "-t", "default", "--show-secrets"))
    assert SECRET in written
    assert "enabled" not in written
    assert cloud.served_by_neutron(), "nothing is enabled"

    load = Load(guest, hypervisor.root, CLIENTS)
    assert "Verified by doctor" in cloud.migrate("enable")
    summary = load.stop()
    LOG.info("there: %s", summary)
    before = cloud.connections_of_neutron()
    assert guest.identity() == guest.instance_id
    assert cloud.connections_of_neutron() == before, "it is ours that answers"
    assert summary.strangers == 0
    assert summary.failed <= CLIENTS, summary

    if way == STARTED_WITH_US:
        guest.run("ip", "neigh", "flush", "dev", "eth0")
        assert guest.identity() == guest.instance_id
        assert METADATA_PORT_MAC in guest.run("ip", "neigh", "show", SERVICE_IPV4)
    load = Load(guest, hypervisor.root, CLIENTS)
    assert "Neutron's to serve" in cloud.migrate("back")
    wait_for(cloud.served_by_neutron, "Neutron to serve the guest again", MAX_GAP)
    summary = load.stop()
    LOG.info("back, %s: %s", way, summary)
    assert summary.strangers == 0
    assert summary.failed <= CLIENTS, summary
    assert summary.longest < MAX_GAP, summary
    assert hypervisor.flows() == ""


@pytest.mark.alone
def test_no_guest_waits_for_the_requests_of_others_on_the_way_back(cloud: Cloud) -> None:
    """Nova takes its time for us, and not for Neutron, which answers all who come meanwhile."""
    hypervisor, guest = cloud.hypervisor, cloud.guest
    slow = hypervisor.spawn(
        "slow-service",
        *(
            sys.executable,
            "-m",
            "lab.stand_ins.metadata_service",
            "--listen",
            f"127.0.0.1:{SLOW_PORT}",
        ),
        *("--instances", hypervisor.root / "instances.json"),
        *("--secret-file", hypervisor.root / "shared-secret"),
        PYTHONPATH=str(TOOLS),
    )
    wait_for(lambda: "instances at" in slow.log.read_text(), "the slow service")
    url = f"http://127.0.0.1:{SLOW_PORT}"
    hypervisor.deploy(nova_metadata_url=url, shared_secret=SECRET, max_requests_per_port=8)
    assert "Verified by doctor" in cloud.migrate("enable")
    guest.run("ip", "addr", "add", OTHER_ADDRESS, "dev", "eth0")
    link_local = str(EUI(guest.mac).ipv6_link_local())
    in_flight = [begin(guest, source) for source in (ANY_IPV4, OTHER_ADDRESS[:-3], link_local)]
    with ExitStack() as stack:
        for connection in in_flight:
            stack.enter_context(connection)
        assert len(accepted(in_flight, 10)) == len(in_flight)
        with stopped_process(slow.pid):
            for connection in in_flight:
                connection.settimeout(30)
                connection.sendall(REQUEST)
            wait_for(lambda: _asked(slow) == len(in_flight), "the requests to be on their way")
            back = hypervisor.spawn("back", *migrate_command(hypervisor, "back")[2:])
            agent = hypervisor.processes["agent"].log
            wait_for(lambda: "enabled is now False" in agent.read_text(), "the agent to obey", 30)
            wait_for(cloud.served_by_neutron, "Neutron to serve the guest", MAX_GAP)
            for _ in range(20):
                assert cloud.served_by_neutron()
            assert back.alive(), "requests are in flight"
        for connection in in_flight:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))  # noqa: B023
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert guest.instance_id.encode() in answer
    assert back.wait(30) == 0
    assert hypervisor.flows() == ""


def _asked(service: Process) -> int:
    """How many requests the slow service has not read."""
    lines = Path(f"/proc/{service.pid}/net/tcp").read_text().splitlines()[1:]
    sockets = [line.split() for line in lines]
    place = f"0100007F:{SLOW_PORT:04X}"
    # Established, with something in the receive queue.
    return sum(
        each[1] == place and each[3] == "01" and int(each[4].split(":")[1], 16) > 0
        for each in sockets
    )


def test_back_where_the_agent_was_killed(cloud: Cloud) -> None:
    hypervisor = cloud.hypervisor
    hypervisor.deploy(nova_metadata_url=hypervisor.nova, shared_secret=SECRET)
    hypervisor.put(cloud.guest, tags=["metadata:hosts=literal"])
    warnings = cloud.warnings_of("enable")
    assert f"ports {cloud.guest.port_id} {Unguarded.ENABLED.value}. " in warnings
    hypervisor.processes["agent"].kill(signal.SIGKILL)
    hypervisor.processes["agent"].wait()
    assert cloud.guest.identity("--max-time", "1") is None
    output = cloud.migrate("back", "--timeout", "5")
    assert "No agent runs here" in output
    assert "Neutron's to serve" in output
    wait_for(cloud.served_by_neutron, "Neutron to serve the guest again", MAX_GAP)
    assert hypervisor.flows() == ""
    assert not Path("/run/netns", hypervisor.metadata_namespace).exists()


def test_back_does_not_take_what_it_cannot_see_for_gone(cloud: Cloud) -> None:
    hypervisor = cloud.hypervisor
    hypervisor.deploy(nova_metadata_url=hypervisor.nova, shared_secret=SECRET)
    cloud.migrate("enable")
    hypervisor.ovs.kill_ovsdb()
    with pytest.raises(LabError, match="its guests may still be served by us: OVSDB at"):
        cloud.migrate("back", "--timeout", "20")


def test_plan_names_what_is_in_the_way(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.deploy(enabled=None, nova_metadata_url=None, shared_secret=None)
    hypervisor.start_metadata_service()
    hypervisor.spawn("agent", *hypervisor.command("agent"))
    guest = hypervisor.add_guest("guest", record=False)
    ini = hypervisor.root / "metadata_agent.ini"
    ini.write_text("[DEFAULT]\nmetadata_proxy_shared_secret = not that of Nova\n")
    ofctl, bridge = hypervisor.ovs.ofctl, hypervisor.bridge
    ofctl("add-flow", bridge, "table=204,priority=1,actions=drop")
    ofctl("add-flow", bridge, "table=0,priority=30000,udp,tp_dst=53,actions=NORMAL")
    hypervisor.ovs.vsctl("add-port", bridge, METADATA_PORT)
    wait_for(lambda: list(hypervisor.store.announced(AGENTS)), "our agent to say it lives", 30)

    def plan() -> Any:
        command = migrate_command(
            hypervisor, "plan", "--metadata-agent-ini", ini, "--format", "json"
        )
        return json.loads(run(*command, check=False, timeout=60))

    def checks() -> dict[str, dict[str, str]]:
        return {check["name"]: check for check in plan()["checks"]}

    found = checks()
    assert {name for name, check in found.items() if check["state"] == "failed"} == {
        *("port name metadata", "tables 200 to 205", "port records", "Nova")
    }
    assert "204" in found["tables 200 to 205"]["text"]
    assert guest.port_id in found["port records"]["text"]
    assert "secret" in found["Nova"]["text"]

    ofctl("del-flows", bridge, "table=204")
    hypervisor.ovs.vsctl("del-port", METADATA_PORT)
    hypervisor.put(guest, tags=["metadata:hop-limit=1"])
    remarks = [each for each in plan()["remarks"] if guest.port_id in each]
    assert ["are not guarded until this host is enabled" in each for each in remarks] == [True]
    hypervisor.add_guest("other", record=False, mac="fa:16:3e:00:00:06", address="10.0.0.6/24")
    ini.write_text(f"[DEFAULT]\nmetadata_proxy_shared_secret = {SECRET}\n")
    states = {name: check["state"] for name, check in checks().items()}
    assert states == {
        "root": "ok",
        "store": "warning",
        "Open vSwitch": "ok",
        "port name metadata": "ok",
        "tables 200 to 205": "warning",
        "port records": "warning",
        "agent": "ok",
        "Nova": "ok",
    }
