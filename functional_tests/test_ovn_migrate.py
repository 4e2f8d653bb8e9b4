"""`ovs-metadata migrate` from Neutron's real agents for ML2/OVN and their haproxy, and back.

All the while a guest asks, over four connections at once, as in test_migrate.py, and over IPv6;
`pytest --log-cli-level=INFO` shows the figures.
"""

import json
import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from migrate_support import CLIENTS, MAX_GAP, Cloud
from ovn_fixtures import OvnHypervisor, ovn_hypervisor

from lab.load.steady_load import Load
from lab.rig.process import run, wait_for
from lab.upstream.neutron_ovn_agent import AGENTS, NeutronOvnAgent
from ovs_metadata.host.address import SERVICE_IPV4
from ovs_metadata.store.layout import AGENTS as ANNOUNCED

LOG = logging.getLogger(__name__)

SUITE = "trixie"
"""Open vSwitch 3.1.0 is not for Neutron's proxy: its connection tracking aborts."""

METADATA_PORT = "10.0.0.2"


@dataclass(frozen=True)
class OvnCloud:
    """A cloud, and the agent of Neutron that serves its guest."""

    cloud: Cloud
    neutron: NeutronOvnAgent


@contextmanager
def _cloud(ovn: OvnHypervisor, agent: str) -> Iterator[OvnCloud]:
    hypervisor = ovn.hypervisor
    hypervisor.deploy(enabled=None, nova_metadata_url=None, shared_secret=None)
    ovn.controller.start()
    hypervisor.spawn("agent", *hypervisor.command("agent"))
    guest = hypervisor.add_guest("guest", plug=False)
    ovn.central.add_port(guest, "fd00::5")
    metadata_port = str(uuid.uuid4())
    ovn.central.add_metadata_port(guest, metadata_port, "fa:16:3e:00:00:fe", METADATA_PORT)
    guest.plug(hypervisor.ovs, hypervisor.bridge)
    ovn.central.wait_for_controllers()
    with NeutronOvnAgent(agent, ovn.central, hypervisor, guest.network_id) as neutron:
        cloud = Cloud(hypervisor, guest, neutron.config, neutron.haproxy)
        wait_for(cloud.served_by_neutron, "Neutron to serve the guest", 30)
        wait_for(
            lambda: list(hypervisor.store.announced(ANNOUNCED)), "our agent to say it lives", 30
        )
        yield OvnCloud(cloud, neutron)


@pytest.fixture(params=AGENTS)
def ovn_cloud(request: pytest.FixtureRequest) -> Iterator[OvnCloud]:
    with ovn_hypervisor(SUITE) as ovn, _cloud(ovn, request.param) as made:
        yield made


@pytest.mark.timeout(400)
def test_there_and_back(ovn_cloud: OvnCloud, tmp_path: Path) -> None:
    """One agent's guest takes the metadata port's route, the other's is on the link."""
    cloud, neutron = ovn_cloud.cloud, ovn_cloud.neutron
    guest = cloud.guest
    if neutron.config.stem == AGENTS[0]:
        guest.run("ip", "route", "replace", f"{SERVICE_IPV4}/32", "via", METADATA_PORT)
    assert guest.identity(ipv6=True) == guest.instance_id
    ini = ("--metadata-agent-ini", cloud.ini)
    planned = json.loads(cloud.migrate("plan", *ini, "--format", "json"))
    assert {check["state"] for check in planned["checks"] if check["name"] != "store"} == {"ok"}
    cloud.migrate("apply", *ini)

    loads = _loads(cloud)
    assert "Verified by doctor" in cloud.migrate("enable")
    there = [load.stop() for load in loads]
    LOG.info("there: %s", there)
    before = cloud.connections_of_neutron()
    for ipv6 in (False, True):
        assert guest.identity(ipv6=ipv6) == guest.instance_id
    assert cloud.connections_of_neutron() == before, "it is ours that answers"
    for summary in there:
        assert summary.strangers == 0
        assert summary.failed <= CLIENTS, summary

    _remove_leftovers(ovn_cloud, tmp_path)
    assert guest.identity() == guest.instance_id
    neutron.start()

    loads = _loads(cloud)
    assert "Neutron's to serve" in cloud.migrate("back")
    wait_for(cloud.served_by_neutron, "Neutron to serve the guest again", MAX_GAP)
    back = [load.stop() for load in loads]
    LOG.info("back: %s", back)
    assert guest.identity(ipv6=True) == guest.instance_id
    for summary in back:
        assert summary.strangers == 0
        assert summary.failed <= CLIENTS, summary
        assert summary.longest < MAX_GAP, summary


def _loads(cloud: Cloud) -> list[Load]:
    """What the guest asks while its agent changes."""
    of, directory = cloud.guest, cloud.hypervisor.root
    return [Load(of, directory, CLIENTS), Load(of, directory, 1, ipv6=True)]


def _remove_leftovers(ovn_cloud: OvnCloud, directory: Path) -> None:
    """Clean up after the agent; no other namespace's name is in the directory."""
    hypervisor, neutron = ovn_cloud.cloud.hypervisor, ovn_cloud.neutron
    path = directory / neutron.namespace
    path.touch()
    run("mount", "--bind", f"/run/netns/{neutron.namespace}", path)
    command: list[str | Path] = [
        *("nsenter", f"--net=/run/netns/{hypervisor.namespace}"),
        *(Path(sys.executable).parent / "ovs-metadata", "--config", hypervisor.config),
        *("cleanup", "ovn-namespaces", "--directory", directory, "--format", "json", "--yes"),
    ]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "nothing was removed: process" in refused.stderr
    neutron.stop_agent()
    haproxy = neutron.haproxy()
    (removed,) = json.loads(run(*command, timeout=60))["namespaces"]
    run("ip", "netns", "del", neutron.namespace)
    assert removed["result"] == "removed"
    assert f"process {haproxy} (haproxy), interface tap" in removed["detail"]
    ports = hypervisor.ovs.vsctl("list-ports", hypervisor.bridge).split()
    assert [port for port in ports if port.startswith("tap")] == [ovn_cloud.cloud.guest.tap]
