"""`ovs-metadata port sync` with the API of the real Neutron, and the real ZooKeeper."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from neutron_fixtures import PROJECT, Deployment, deployment, running_neutron

from ovs_metadata.publisher.ports import record_of

__all__ = ["deployment", "running_neutron"]

pytestmark = pytest.mark.timeout(600)  # the first run installs Neutron


def sync(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command(deployment, "--os-endpoint", deployment.api.url, *arguments)


def command(
    deployment: Deployment,
    *arguments: str,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command, in a directory and with more variables, OS_* none but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    return subprocess.run(
        [
            Path(sys.executable).parent / "ovs-metadata",
            *("--store", deployment.store_url, "port", "sync", "--from-neutron", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=directory,
        env={**kept, **(env or {})},
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


def clouds(deployment: Deployment) -> dict[str, dict[str, object]]:
    """What clouds.yaml may say of a Neutron without Keystone."""
    url = deployment.api.url
    return {
        "none": {"auth_type": "none", "network_endpoint_override": url},
        "basic": {
            "auth_type": "http_basic",
            "auth": {"username": "admin", "password": "secret", "endpoint": url},
        },
    }


@pytest.mark.parametrize("cloud", ["none", "basic"])
@pytest.mark.parametrize("named_by", ["option", "variable"])
def test_neutron_is_found_by_clouds_yaml(
    deployment: Deployment, tmp_path: Path, cloud: str, named_by: str
) -> None:
    # YAML includes JSON.
    (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": clouds(deployment)}))
    option = ["--os-cloud", cloud] if named_by == "option" else []
    env = {"OS_CLOUD": cloud} if named_by == "variable" else {}
    lose_a_record(deployment)
    done = command(deployment, *option, directory=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "1 unchanged, 1 added, 0 updated, 0 removed" in done.stdout
    assert deployment.is_right()


def test_neutron_is_found_by_variables(deployment: Deployment, tmp_path: Path) -> None:
    env = {
        "OS_AUTH_TYPE": "http_basic",
        "OS_USERNAME": "admin",
        "OS_PASSWORD": "secret",
        "OS_ENDPOINT": deployment.api.url,
    }
    lose_a_record(deployment)
    done = command(deployment, directory=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "1 unchanged, 1 added, 0 updated, 0 removed" in done.stdout
    assert deployment.is_right()


def lose_a_record(deployment: Deployment) -> None:
    """Have two ports, and the record of one of them gone."""
    ports = [deployment.create(device_id=f"instance-{number}") for number in range(2)]
    deployment.wait_until_right()
    deployment.store.delete(ports[1]["id"])
