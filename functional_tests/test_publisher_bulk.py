"""`ovs-metadata port sync` with the API of the real Neutron, and the real ZooKeeper."""

import subprocess
import sys
from pathlib import Path

import pytest
from neutron_fixtures import PROJECT, Deployment, deployment, running_neutron

from ovs_metadata.publisher.ports import record_of

__all__ = ["deployment", "running_neutron"]

pytestmark = pytest.mark.timeout(600)  # the first run installs Neutron


def sync(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            Path(sys.executable).parent / "ovs-metadata",
            *("--store", deployment.store_url, "port", "sync", "--from-neutron"),
            *("--os-endpoint", deployment.api.url, *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_the_plugin_publishes_is_what_the_command_would_write(deployment: Deployment) -> None:
    for number in range(3):
        deployment.create(device_id=f"instance-{number}")
    deployment.wait_until_right()
    done = sync(deployment, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 ports compared: 3 unchanged")
    assert done.stderr == ""


def test_sub_ports_are_known_by_their_trunks(deployment: Deployment) -> None:
    parent, subport = deployment.create(), deployment.create(device_owner="", device_id="")
    sub_ports = [{"port_id": subport["id"], "segmentation_type": "vlan", "segmentation_id": 42}]
    trunk = {"port_id": parent["id"], "tenant_id": PROJECT, "sub_ports": sub_ports}
    made = deployment.api.call("POST", "trunks", {"trunk": trunk})["trunk"]
    try:
        deployment.update(subport, device_owner="trunk:subport")
        deployment.wait_until_right()
        deployment.store.delete(subport["id"])
        done = sync(deployment)
        assert "1 unchanged, 1 added" in done.stdout, done.stderr
        assert deployment.is_right()
        assert deployment.store.get(subport["id"]).device_id == parent["id"]
    finally:
        deployment.api.call("DELETE", f"trunks/{made['id']}")


def test_a_store_that_was_tampered_with_is_made_right(deployment: Deployment) -> None:
    kept, lost, changed = (deployment.create(device_id=f"instance-{n}") for n in range(3))
    deployment.wait_until_right()
    record = record_of(kept)
    left_over = {"id": "00000000-0000-4000-8000-000000000001", "revision_number": 1}
    deployment.store.put(record_of({**kept, **left_over}))
    deployment.store.put(record_of({**changed, "device_id": "another"}), force=True)
    deployment.store.delete(lost["id"])
    done = sync(deployment)
    assert done.returncode == 0, done.stderr
    assert "1 unchanged, 1 added, 1 updated, 1 removed" in done.stdout
    assert deployment.is_right()
    assert deployment.store.get(kept["id"]).device_id == record.device_id
