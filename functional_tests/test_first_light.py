"""Guests get their own metadata through the switch, and nothing they forge changes that."""

import json
from pathlib import Path

import pytest
from hypervisor_fixtures import on_both_hosts

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import wait_for
from ovs_metadata.agent.identities import signature

pytestmark = on_both_hosts


@pytest.fixture(scope="module")
def twins(hypervisor: Hypervisor) -> tuple[Guest, Guest]:
    """Two guests of different networks with the same MAC and IP address."""
    twins = hypervisor.add_guest("one"), hypervisor.add_guest("two")
    for guest in twins:
        hypervisor.wait_until_served(guest)
    return twins


def test_each_guest_gets_its_own_metadata(twins: tuple[Guest, Guest]) -> None:
    for guest in twins:
        status, body = guest.curl("/openstack/latest/meta_data.json")
        assert status == 200
        document = json.loads(body)
        assert document["uuid"] == guest.instance_id
        assert document["project_id"] == guest.project_id


@pytest.mark.parametrize(
    "header",
    ["X-Instance-ID", "x-instance-id", "X_Instance_ID", "X-Instance_Id", "X-INSTANCE-ID"],
)
def test_a_forged_instance_id_changes_nothing(twins: tuple[Guest, Guest], header: str) -> None:
    one, two = twins
    assert one.identity("--header", f"{header}: {two.instance_id}") == one.instance_id


@pytest.mark.parametrize(
    "source", ["10.0.0.99", "192.0.2.1", "169.254.0.2", "169.254.0.3", "169.254.77.77"]
)
def test_a_forged_source_address_changes_nothing(twins: tuple[Guest, Guest], source: str) -> None:
    one, _two = twins
    one.run("ip", "addr", "add", f"{source}/32", "dev", "eth0")
    try:
        assert one.identity("--interface", source) == one.instance_id
        assert one.identity() == one.instance_id
    finally:
        one.run("ip", "addr", "del", f"{source}/32", "dev", "eth0")


def test_a_guest_with_a_forged_source_mac_gets_no_answer_at_it(twins: tuple[Guest, Guest]) -> None:
    """The answer is for the MAC of the port's record, whatever the request came from."""
    one, two = twins
    one.run("ip", "link", "set", "eth0", "address", "fa:16:3e:de:ad:00")
    one.run("ip", "route", "replace", "169.254.169.254/32", "dev", "eth0")
    try:
        assert one.curl(timeout=2) == (0, "")
    finally:
        one.run("ip", "link", "set", "eth0", "address", one.mac)
        one.run("ip", "route", "replace", "169.254.169.254/32", "dev", "eth0")
    assert (one.identity(), two.identity()) == (one.instance_id, two.instance_id)


def test_a_guest_plugged_in_later_is_served_and_leaves_nothing_behind(
    hypervisor: Hypervisor,
) -> None:
    guest = hypervisor.add_guest("late", mac="fa:16:3e:00:00:0a", address="10.0.0.10/24")
    ofport = hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id
    guest.unplug(hypervisor.ovs)
    wait_for(lambda: not hypervisor.flows_of(ofport), "the flows of the port to go")
    assert f"in_port={ofport}," not in hypervisor.ovs.ofctl("dump-flows", hypervisor.bridge)


def test_a_record_that_comes_after_the_port_is_followed(hypervisor: Hypervisor) -> None:
    guest = hypervisor.add_guest("early", record=False)
    ofport = hypervisor.ovs.ofport(guest.tap)
    assert hypervisor.flows_of(ofport) == []
    hypervisor.put(guest)
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id


def test_a_changed_record_is_followed(hypervisor: Hypervisor) -> None:
    guest = hypervisor.add_guest("moving")
    ofport = hypervisor.wait_until_served(guest)
    mac = "fa:16:3e:00:00:66"
    guest.run("ip", "link", "set", "eth0", "address", mac)
    guest.run("ip", "route", "replace", "169.254.169.254/32", "dev", "eth0")
    hypervisor.put(guest, mac_address=mac, revision_number=2)
    wait_for(
        lambda: any(f"set_field:{mac}->eth_dst" in flow for flow in hypervisor.flows_of(ofport)),
        "flows for the new MAC",
    )
    assert guest.identity() == guest.instance_id


def test_ports_that_are_no_instances_get_no_flows(hypervisor: Hypervisor) -> None:
    dhcp = hypervisor.add_guest("dhcp", record=False)
    hypervisor.put(dhcp, device_owner="network:dhcp")
    instance = hypervisor.add_guest("after")
    hypervisor.wait_until_served(instance)
    assert hypervisor.flows_of(hypervisor.ovs.ofport(dhcp.tap)) == []


def test_a_record_that_contradicts_vm_uuid_is_not_served(hypervisor: Hypervisor) -> None:
    guest = hypervisor.add_guest("stale", plug=False)
    guest.plug(hypervisor.ovs, hypervisor.bridge, **{"vm-uuid": guest.port_id})
    hypervisor.wait_until_served(guest)
    status, _body = guest.curl("/openstack/latest/meta_data.json")
    assert status == 503


def test_a_malformed_record_is_reported_once_and_other_ports_are_served(
    hypervisor: Hypervisor, twins: tuple[Guest, Guest]
) -> None:
    guest = hypervisor.add_guest("broken", record=False)
    path = hypervisor.root / "store/ovs_metadata/v2/ports" / guest.port_id[:2] / guest.port_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{ this is no record")
    log = hypervisor.processes["agent"].log

    def complaints() -> list[str]:
        lines = log.read_text().splitlines()
        return [line for line in lines if guest.port_id in line and "ERROR" in line]

    wait_for(complaints, "the complaint about the record")
    one, _two = twins
    assert one.identity() == one.instance_id
    # The flow controller opens the store, too, and logs the same.
    assert 1 <= len(complaints()) <= 2
    hypervisor.put(guest)
    hypervisor.wait_until_served(guest)
    wait_for(lambda: guest.identity() == guest.instance_id, "the guest to be served")


def test_flows_of_others_are_never_touched(hypervisor: Hypervisor) -> None:
    theirs = "cookie=0x1234,table=0,priority=7,udp,tp_dst=5353 actions=drop"
    hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, theirs)
    in_our_table = "cookie=0x1234,table=200,priority=7,udp,tp_dst=5353 actions=drop"
    hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, in_our_table)
    guest = hypervisor.add_guest("passing")
    ofport = hypervisor.wait_until_served(guest)
    guest.unplug(hypervisor.ovs)
    wait_for(lambda: not hypervisor.flows_of(ofport), "the flows of the port to go")
    theirs_now = hypervisor.ovs.ofctl("dump-flows", hypervisor.bridge, "cookie=0x1234/-1")
    assert theirs_now.count("tp_dst=5353") == 2


def test_flows_deleted_behind_our_back_come_back(
    hypervisor: Hypervisor, twins: tuple[Guest, Guest]
) -> None:
    before = hypervisor.static_flows()
    hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
    wait_for(lambda: hypervisor.static_flows() == before, "the flows to come back", timeout=5)
    for guest in twins:
        assert guest.identity() == guest.instance_id


def test_a_worker_has_no_privileges_and_no_secret(
    hypervisor: Hypervisor, twins: tuple[Guest, Guest]
) -> None:
    worker = hypervisor.children()["ovs_metadata.proxy.main"]
    process = Path(f"/proc/{worker}")
    status = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    assert "0" not in status["Uid"].split()
    assert "0" not in status["Gid"].split()
    assert status["Groups"].split() == []
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    for where in ("environ", "cmdline"):
        assert hypervisor.secret.encode() not in (process / where).read_bytes()
    assert hypervisor.secret.encode() not in _memory(process)
    # The search can find something: the table that the worker got is there.
    one, _two = twins
    assert one.instance_id.encode() in _memory(process)


def _memory(process: Path) -> bytes:
    """All writable memory of a process."""
    found = b""
    with (process / "mem").open("rb", buffering=0) as memory:
        for line in (process / "maps").read_text().splitlines():
            area, permissions, *_ = line.split()
            if permissions.startswith("rw"):
                start, end = (int(part, 16) for part in area.split("-"))
                memory.seek(start)
                found += memory.read(end - start)
    return found


def test_the_secret_is_in_no_log(hypervisor: Hypervisor, twins: tuple[Guest, Guest]) -> None:
    one, _two = twins
    assert one.identity() == one.instance_id
    for log in hypervisor.root.glob("*.log"):
        text = log.read_text()
        assert hypervisor.secret not in text
        assert signature(hypervisor.secret.encode(), one.instance_id) not in text
