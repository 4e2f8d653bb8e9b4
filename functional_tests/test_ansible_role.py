"""The Ansible role, played against a machine of its own: installed, checked, repeated, taken back.

`tools/test system ansible` runs it; see conftest.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from package_fixtures import ROOT, package

from lab.rig.guest import Guest
from lab.rig.machine import Machine
from lab.rig.machine_hypervisor import hypervisor_commands, port_set_arguments
from lab.upstream.ansible_install import ansible_programs

__all__ = ["package"]

pytestmark = pytest.mark.timeout(1800)

ROLE = ROOT / "packaging" / "ansible"
GUEST = Guest("guest")
COUNTS = re.compile(r"ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)")

INSTANCES = [{"uuid": GUEST.instance_id, "project_id": GUEST.project_id, "name": "guest"}]

HYPERVISOR = f"""{hypervisor_commands(GUEST)}
mkdir -p /run/play
: >/run/play/secret
echo '{json.dumps(INSTANCES)}' >/run/play/instances
systemd-run --quiet --unit=nova --setenv=PYTHONPATH={ROOT}/tools {ROOT}/.venv/bin/python -B -m \\
    lab.stand_ins.metadata_service --instances /run/play/instances --secret-file /run/play/secret
"""

INVENTORY = """
[hypervisors]
localhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3
"""

RECORD = ("--store", "directory:/var/lib/ovs-metadata/store", *port_set_arguments(GUEST))


@pytest.fixture(scope="module")
def programs() -> Path:
    """Where Ansible's programs are."""
    return ansible_programs()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A hypervisor without the agent."""
    with Machine(tmp_path / "machine") as booted:
        booted.run("sh", "-c", HYPERVISOR)
        booted.path("/run/play/inventory").write_text(INVENTORY)
        yield booted


def test_it_passes_the_linter(programs: Path) -> None:
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["ansible-lint", "--offline", "--strict", "--nocolor", "."],
        cwd=ROLE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_host_is_set_up_verified_and_taken_back(
    machine: Machine, programs: Path, package: Path
) -> None:
    copied = machine.path("/run/play") / package.name
    copied.write_bytes(package.read_bytes())

    def play(*arguments: str, state: str = "present") -> int:
        """Play it; returns how many tasks have changed something."""
        output = machine.run(
            *("env", "HOME=/root", str(programs / "ansible-playbook"), "--inventory"),
            *("/run/play/inventory", str(ROLE / "playbook.yml"), *arguments),
            *("-e", f"ovs_metadata_agent_package=/run/play/{package.name}"),
            *("-e", f"ovs_metadata_agent_state={state}"),
            *("-e", "ovs_metadata_agent_enabled=true"),
            *("-e", '{"ovs_metadata_agent_options": {"proxy": {"workers": 1}}}'),
            timeout=600,
        )
        found = COUNTS.search(output)
        assert found, output
        assert found.group(3, 4) == ("0", "0"), output
        return int(found.group(2))

    # Without a record of its instance doctor would find the host broken.
    machine.run("mkdir", "--mode=700", "/var/lib/ovs-metadata")
    machine.run(str(ROOT / ".venv/bin/ovs-metadata"), *RECORD)
    flows_before = machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats")
    assert play("--check") > 0
    assert not machine.path("/etc/ovs-metadata").exists()
    assert play() > 0
    assert "metadata" in machine.run("ovs-vsctl", "list-ports", "br-int").split()
    assert "workers = 1" in machine.path("/etc/ovs-metadata/agent.conf").read_text()
    for _ in range(2):
        assert play() == 0
        assert play("--check") == 0

    assert play("--check", state="absent") > 0
    assert play(state="absent") > 0
    assert play(state="absent") == 0
    assert "metadata" not in machine.run("ovs-vsctl", "list-ports", "br-int").split()
    assert machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats") == flows_before
    assert not machine.path("/etc/ovs-metadata").exists()
