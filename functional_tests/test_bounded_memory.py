"""Nothing grows with the number of ports there ever were on a host."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypervisor_fixtures import Factory, OnZooKeeper, serve_guest

from lab.load.ovsdb_client import NewPort, OvsdbClient
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from lab.rig.usage import proportional_memory
from ovs_metadata.store.record import PortRecord

AT_ONCE = 50
"""Ports that are there at the same time."""
EARLY, LATE = 1000, 2000
"""Ports there have been when memory is compared: by the first, bounded caches are full."""
ALLOWED = 1.1
"""What a process may have grown by: allocators never give everything back."""

FLOWS_OF_A_PORT = 3
"""At least so many of a port's flows are hooks, in table 0."""


def _record(number: int) -> PortRecord:
    return PortRecord(
        port_id=str(uuid.uuid4()),
        project_id=uuid.uuid4().hex,
        device_id=str(uuid.uuid4()),
        device_owner="compute:nova",
        mac_address=f"fa:16:3f:00:{number >> 8:02x}:{number & 0xFF:02x}",
        fixed_ips=(f"10.1.{number >> 8}.{number & 0xFF}", f"2001:db8::{number:x}"),
        network_id=str(uuid.uuid4()),
        revision_number=1,
    )


def _hooks(hypervisor: Hypervisor) -> int:
    text = hypervisor.ovs.ofctl("dump-aggregate", hypervisor.bridge, "table=0")
    return int(text.rpartition("flow_count=")[2])


def _served(hypervisor: Hypervisor) -> int:
    """How many ports the agent says it serves."""
    inside = ("ip", "netns", "exec", hypervisor.namespace)
    answer = run(*inside, "curl", "--silent", "http://127.0.0.1:9775/status")
    return int(json.loads(answer)["ports"]["served"])


@contextmanager
def _client(hypervisor: Hypervisor) -> Iterator[OvsdbClient]:
    client = OvsdbClient(hypervisor.ovs.connection, hypervisor.bridge)
    try:
        yield client
    finally:
        client.close()


def _come_and_go(hypervisor: Hypervisor, client: OvsdbClient, numbers: range) -> None:
    """Have ports plugged, served, and unplugged again with their records."""
    served, hooks = _served(hypervisor), _hooks(hypervisor)
    records = [_record(number) for number in numbers]
    for record in records:
        hypervisor.store.put(record)
    names = [f"crowd{number}" for number in numbers]
    # Patch ports have numbers and flows, and cost Open vSwitch least of all.
    client.add(
        NewPort(
            name,
            {"iface-id": record.port_id, "vm-uuid": record.device_id},
            "patch",
            {"peer": f"{name}-nowhere"},
        )
        for name, record in zip(names, records, strict=True)
    )
    wait_for(
        lambda: (
            _served(hypervisor) == served + AT_ONCE
            and _hooks(hypervisor) >= hooks + FLOWS_OF_A_PORT * AT_ONCE
        ),
        "all ports to be served",
        30,
    )
    client.unplug(*names)
    for record in records:
        hypervisor.store.delete(record.port_id)
    wait_for(
        lambda: _served(hypervisor) == served and _hooks(hypervisor) == hooks,
        "all ports to be gone",
        30,
    )


def _memory(hypervisor: Hypervisor) -> dict[str, float]:
    """MiB by process."""
    pids = hypervisor.children() | {"agent": hypervisor.processes["agent"].pid}
    return {name: proportional_memory(pid) for name, pid in sorted(pids.items())}


def _assert_bounded(hypervisor: Hypervisor) -> None:
    with _client(hypervisor) as client:
        early: dict[str, float] = {}
        for number in range(0, LATE, AT_ONCE):
            _come_and_go(hypervisor, client, range(number, number + AT_ONCE))
            if number + AT_ONCE == EARLY:
                early = _memory(hypervisor)
    late = _memory(hypervisor)
    assert early.keys() == late.keys()
    assert len(late) == 3, late
    grown = {name: (early[name], late[name]) for name in late if late[name] > ALLOWED * early[name]}
    assert not grown, f"MiB after {EARLY} and after {LATE} ports"


@pytest.mark.timeout(600)
def test_ports_that_come_and_go_leave_no_memory_behind(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    serve_guest(hypervisor)
    _assert_bounded(hypervisor)


@pytest.mark.timeout(600)
def test_with_zookeeper_they_leave_none_either(on_zookeeper: OnZooKeeper) -> None:
    _assert_bounded(on_zookeeper.hypervisor)
