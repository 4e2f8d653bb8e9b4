"""The service plugin in the real Neutron publishes what real API calls do to ports."""

import json
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
from neutron_fixtures import HOSTS, PROJECT, Deployment, deployment, running_neutron

from lab.rig.process import stopped_process, wait_for
from lab.rig.zookeeper import ZooKeeper
from lab.upstream.neutron import ApiServer
from ovs_metadata.agent.reconciliation import ReconciliationFollower
from ovs_metadata.host.option_documents import read_option_documents
from ovs_metadata.metadata_options import DEFAULT_POLICY, resolve
from ovs_metadata.publisher.agents import AGENT_TYPE
from ovs_metadata.store.layout import agent_path
from ovs_metadata.store.record import PortRecord, SubPort
from ovs_metadata.store.zookeeper.session import OPERATION_TIMEOUT

__all__ = ["deployment", "running_neutron"]

pytestmark = pytest.mark.timeout(600)  # the first run installs Neutron

CALLS = 4

NOISE = OPERATION_TIMEOUT / 2
"""Seconds by which a call may take longer on a busy machine. One that waited for the store would
take as long as an operation of the store waits."""

T = TypeVar("T")


def on(host: str) -> dict[str, Any]:
    """What Nova says of a port when it has chosen the host."""
    return {"binding:host_id": host}


def record(deployment: Deployment, port_id: str) -> PortRecord | None:
    found = deployment.published().get(port_id)
    assert found is None or isinstance(found, PortRecord)
    return found


def sub_ports(deployment: Deployment, parent: dict[str, Any]) -> tuple[SubPort, ...] | None:
    """What the parent's record says of its trunk."""
    found = record(deployment, parent["id"])
    return found.sub_ports if found else None


def test_a_port_is_followed_through_its_life(deployment: Deployment) -> None:
    port = deployment.create()
    wait_for(lambda: record(deployment, port["id"]), "the record to be published")
    assert record(deployment, port["id"]) == PortRecord(
        port_id=port["id"],
        project_id=port["project_id"],
        device_id="instance-1",
        device_owner="compute:nova",
        mac_address=port["mac_address"],
        fixed_ips=(port["fixed_ips"][0]["ip_address"],),
        network_id=deployment.network_id,
        revision_number=port["revision_number"],
    )

    bound = deployment.update(port, **on(HOSTS[0]))
    assert bound["binding:vif_type"] == "ovs"
    deployment.wait_until_right()

    addresses = [
        {"subnet_id": deployment.subnet_id, "ip_address": "10.0.200.1"},
        {"subnet_id": deployment.subnet_id, "ip_address": "10.0.200.2"},
    ]
    deployment.update(port, fixed_ips=addresses)
    deployment.wait_until_right()
    changed = record(deployment, port["id"])
    assert changed is not None
    assert set(changed.fixed_ips) == {"10.0.200.1", "10.0.200.2"}

    deployment.update(port, device_id="instance-2")
    deployment.wait_until_right()
    reassigned = record(deployment, port["id"])
    assert reassigned is not None
    assert reassigned.device_id == "instance-2"

    deployment.delete(port)
    wait_for(lambda: record(deployment, port["id"]) is None, "the record to go")


def test_tags_that_set_metadata_options_are_published_within_a_second(
    deployment: Deployment,
) -> None:
    port = deployment.create()
    tags = f"ports/{port['id']}/tags"
    deployment.wait_until_right()

    def published(*wanted: str) -> None:
        begun = time.monotonic()
        wait_for(lambda: _tags(deployment, port["id"]) == wanted, f"the tags {wanted}")
        assert time.monotonic() - begun < 1 + NOISE

    deployment.api.call("PUT", f"{tags}/metadata:hop-limit=1")
    published("metadata:hop-limit=1")
    deployment.update(port, name="another")
    deployment.wait_until_right()
    assert _tags(deployment, port["id"]) == ("metadata:hop-limit=1",)
    deployment.api.call("PUT", tags, {"tags": ["blue", "metadata:tokens=required"]})
    published("metadata:tokens=required")
    deployment.api.call("DELETE", f"{tags}/metadata:tokens=required")
    published()
    deployment.api.call("PUT", f"{tags}/metadata:x")
    published("metadata:x")
    deployment.api.call("DELETE", tags)
    published()


def _tags(deployment: Deployment, port_id: str) -> tuple[str, ...] | None:
    found = record(deployment, port_id)
    return None if found is None else found.tags


def test_tags_of_a_shared_network_are_for_ports_of_its_own_project(
    deployment: Deployment,
) -> None:
    shared = {"name": "shared", "tenant_id": PROJECT, "shared": True}
    network_id = deployment.api.call("POST", "networks", {"network": shared})["network"]["id"]
    ports = [
        deployment.create(network_id=network_id, tenant_id=project)
        for project in (PROJECT, "project-2")
    ]
    deployment.wait_until_right()

    def limits() -> list[int]:
        records = [record(deployment, port["id"]) for port in ports]
        documents = read_option_documents(deployment.store, records)
        levels = [documents.levels(each) if each else None for each in records]
        return [resolve(DEFAULT_POLICY, each or []).options.hop_limit for each in levels]

    tags = f"networks/{network_id}/tags"
    begun = time.monotonic()
    deployment.api.call("PUT", f"{tags}/metadata:hop-limit=1")
    wait_for(lambda: limits() == [1, 0], "the network's tag")
    assert time.monotonic() - begun < 1 + NOISE
    deployment.api.call("PUT", f"networks/{network_id}", {"network": {"name": "another"}})
    deployment.api.call("PUT", f"{tags}/metadata:hop-limit=2")
    deployment.api.call("DELETE", f"{tags}/metadata:hop-limit=1")
    wait_for(lambda: limits() == [2, 0], "the other tag")
    deployment.api.call("DELETE", tags)
    wait_for(lambda: limits() == [0, 0], "the end of all tags")
    deployment.api.call("PUT", f"{tags}/metadata:hop-limit=3")
    wait_for(lambda: limits() == [3, 0], "the next tag")
    for port in ports:
        deployment.delete(port)
    deployment.api.call("DELETE", f"networks/{network_id}")
    wait_for(lambda: not _network_tags(deployment, network_id), "the end of the network")


def _network_tags(deployment: Deployment, network_id: str) -> tuple[str, ...]:
    found = deployment.store.network(network_id)
    return found.tags if found else ()


@pytest.mark.parametrize("way", ["update", "second binding"])
def test_a_live_migration_keeps_the_record(deployment: Deployment, way: str) -> None:
    port = deployment.create(**on(HOSTS[0]))
    deployment.wait_until_right()
    before = record(deployment, port["id"])
    if way == "update":
        deployment.update(port, **on(HOSTS[1]))
    else:
        bindings = f"ports/{port['id']}/bindings"
        deployment.api.call("POST", bindings, {"binding": {"host": HOSTS[1]}})
        deployment.api.call("PUT", f"{bindings}/{HOSTS[1]}/activate")
        deployment.api.call("DELETE", f"{bindings}/{HOSTS[0]}")
    deployment.wait_until_right()
    after = record(deployment, port["id"])
    assert before is not None
    assert after is not None
    assert (after.device_id, after.fixed_ips) == (before.device_id, before.fixed_ips)


def test_only_ports_of_instances_are_published(deployment: Deployment) -> None:
    other = deployment.create(device_owner="network:dhcp", device_id="dhcp-1")
    spare = deployment.create(device_owner="", device_id="")
    attached = deployment.create()
    deployment.wait_until_right()
    assert set(deployment.published()) == {attached["id"]}

    deployment.update(spare, device_owner="compute:zone-2", device_id="instance-3")
    deployment.update(attached, device_owner="", device_id="")
    wait_for(lambda: set(deployment.published()) == {spare["id"]}, "the ports to change places")
    deployment.update(attached, device_owner="compute:nova", device_id="instance-4")
    deployment.wait_until_right()
    assert set(deployment.published()) == {spare["id"], attached["id"]}
    assert other["id"] not in deployment.published()


def test_a_trunks_sub_port_is_published_as_its_parents(deployment: Deployment) -> None:
    parent = deployment.create()
    first, second = (deployment.create(device_owner="", device_id="") for _ in range(2))

    def in_trunk(port: dict[str, Any]) -> dict[str, Any]:
        return {"port_id": port["id"], "segmentation_type": "vlan", "segmentation_id": 42}

    trunk = {"port_id": parent["id"], "tenant_id": PROJECT, "sub_ports": [in_trunk(first)]}
    made = deployment.api.call("POST", "trunks", {"trunk": trunk})["trunk"]
    change = f"trunks/{made['id']}"
    try:
        # As the server does when the agent of the host wires them.
        deployment.update(first, device_owner="trunk:subport", **on(HOSTS[0]))
        wait_for(lambda: record(deployment, first["id"]), "the sub-port's record")
        found = record(deployment, first["id"])
        assert found is not None
        assert (found.device_owner, found.device_id) == ("trunk:subport", parent["id"])
        assert sub_ports(deployment, parent) == ((42, first["id"]),)
        deployment.wait_until_right()

        removed = {"sub_ports": [in_trunk(first)]}
        deployment.api.call("PUT", f"{change}/remove_subports", removed)
        wait_for(lambda: record(deployment, first["id"]) is None, "the record to go")
        wait_for(lambda: not sub_ports(deployment, parent), "the parent's record to follow")

        deployment.update(second, device_owner="trunk:subport")
        deployment.api.call("PUT", f"{change}/add_subports", {"sub_ports": [in_trunk(second)]})
        wait_for(lambda: record(deployment, second["id"]), "the other sub-port's record")
        deployment.wait_until_right()
        assert sub_ports(deployment, parent) == ((42, second["id"]),)
    finally:
        deployment.api.call("DELETE", change)
    wait_for(lambda: set(deployment.published()) == {parent["id"]}, "only the parent's to stay")


@pytest.mark.alone
def test_api_calls_go_on_through_an_outage(deployment: Deployment, zookeeper: ZooKeeper) -> None:
    kept, removed = deployment.create(), deployment.create()
    deployment.wait_until_right()
    before = slowest_calls(deployment, kept)
    assert zookeeper.pid
    # It takes requests and answers none: who waits for it, waits as long as an operation may take.
    with stopped_process(zookeeper.pid):
        deployment.delete(removed)
        during = slowest_calls(deployment, kept)
    for kind, seconds in during.items():
        assert seconds < before[kind] + NOISE, f"{kind} waits for ZooKeeper"
    deployment.wait_until_right(30)
    assert removed["id"] not in deployment.published()


def slowest_calls(deployment: Deployment, port: dict[str, Any]) -> dict[str, float]:
    """Make each kind of call some times, and leave a port behind; the longest of each, in s."""
    seconds: dict[str, float] = {}

    def timed(kind: str, call: Callable[[], T]) -> T:
        started = time.monotonic()
        result = call()
        seconds[kind] = max(seconds.get(kind, 0.0), time.monotonic() - started)
        return result

    for number in range(CALLS):
        created = timed("create", deployment.create)
        change = partial(deployment.update, port, device_id=f"instance-{number}")
        timed("update", change)
        timed("delete", partial(deployment.delete, created))
    timed("create", deployment.create)
    return seconds


@pytest.mark.parametrize("zone", ["Failure domain 2", "Württemberg Test"])
def test_an_instance_in_any_availability_zone_has_a_record(
    deployment: Deployment, zone: str
) -> None:
    port = deployment.create(device_owner=f"compute:{zone}")
    deployment.wait_until_right()
    record = deployment.published()[port["id"]]
    assert isinstance(record, PortRecord)
    assert record.device_owner == port["device_owner"] == f"compute:{zone}"


def test_what_a_killed_worker_had_not_published_is_reconciled(
    deployment: Deployment, zookeeper: ZooKeeper
) -> None:
    changed, removed = deployment.create(), deployment.create()
    tagged = f"networks/{deployment.network_id}/tags"
    deployment.wait_until_right()
    # Without a store nothing is published between the commit and the end of the process.
    zookeeper.kill()
    try:
        created = deployment.create()
        deployment.update(changed, device_id="instance-2")
        deployment.api.call("PUT", f"ports/{changed['id']}/tags/metadata:hop-limit=1")
        deployment.api.call("PUT", f"{tagged}/metadata:hosts=literal")
        deployment.delete(removed)
        (worker,) = deployment.api.workers()
        deployment.api.kill_worker(worker)
    finally:
        zookeeper.start()
    wait_for(lambda: set(deployment.wanted()) == {created["id"], changed["id"]}, "Neutron", 60)
    assert set(deployment.published()) == {changed["id"], removed["id"]}
    assert _network_tags(deployment, deployment.network_id) == ()

    reconciling = deployment.neutron.start_periodic_workers()
    deployment.wait_until_right(60)
    assert _tags(deployment, changed["id"]) == ("metadata:hop-limit=1",)
    expected = ("metadata:hosts=literal",)
    wait_for(lambda: _network_tags(deployment, deployment.network_id) == expected, "the tag", 60)
    agents = ReconciliationFollower(deployment.store)
    wait_for(lambda: agents.report and agents.report.ports.get("right") == 2, "the report", 60)
    assert agents.report
    assert agents.report.server == socket.gethostname()
    agents.close()
    reconciling.kill(signal.SIGTERM)
    assert reconciling.wait() == 0
    deployment.api.call("DELETE", tagged)


def test_neutrons_list_of_agents_shows_ours_alive_and_dead(deployment: Deployment) -> None:
    document = json.dumps({"version": "0.1.0", "enabled": True, "ports_served": 3}).encode()
    announcement = deployment.store.announce(agent_path(HOSTS[0]), document)
    reporting = deployment.neutron.start_periodic_workers()

    def shown() -> dict[str, Any]:
        query = f"agents?host={HOSTS[0]}&agent_type={quote(AGENT_TYPE)}"
        found: list[dict[str, Any]] = deployment.api.call("GET", query)["agents"]
        return found[0] if found else {}

    wait_for(lambda: shown().get("alive"), "the agent to be alive", 60)
    agent = shown()
    assert (agent["binary"], agent["admin_state_up"]) == ("ovs-metadata-agent", True)
    assert agent["configurations"] == json.loads(document)
    announcement.close()
    wait_for(lambda: not shown()["alive"], "the agent to be dead", 30)
    reporting.kill(signal.SIGTERM)
    assert reporting.wait() == 0


def test_two_servers_at_once_end_in_the_right_state(deployment: Deployment) -> None:
    servers = [deployment.api, deployment.neutron.start_api(workers=2)]
    ports = [deployment.create() for _ in range(3)]
    *kept, removed = ports

    def insist(call: Callable[[], object]) -> None:
        # Neutron refuses a call when two servers write to the one SQLite file: then once more.
        wait_for(lambda: call() or True, "Neutron's database", 60)

    def work(number: int, api: ApiServer) -> None:
        for turn in range(3):
            for port in kept:
                device = f"instance-{number}-{turn}"
                insist(partial(deployment.update, port, api, device_id=device))

    with ThreadPoolExecutor(len(servers)) as pool:
        working = [pool.submit(work, *server) for server in enumerate(servers)]
        insist(partial(deployment.delete, removed, servers[1]))
        for work_done in working:
            work_done.result()
    deployment.wait_until_right(30)
    assert set(deployment.published()) == {port["id"] for port in kept}
    assert servers[1].process.stop() == 0
