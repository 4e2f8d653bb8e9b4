"""The Ansible role, played against a machine of its own: installed, checked, repeated, taken back.

`tools/test system ansible` runs it; see conftest. test_container.py plays it with containers.
"""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from ansible_support import ROLE, play
from package_fixtures import ROOT, package

from lab.rig.guest import Guest
from lab.rig.machine import Machine
from lab.rig.machine_hypervisor import hypervisor_commands, nova_commands, port_set_arguments
from lab.upstream.ansible_install import ansible_programs

__all__ = ["package"]

pytestmark = pytest.mark.timeout(1800)

GUEST = Guest("guest")
RECORD = ("--store", "directory:/var/lib/ovs-metadata/store", *port_set_arguments(GUEST))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A hypervisor without the agent."""
    with Machine(tmp_path / "machine") as booted:
        booted.run("sh", "-c", f"{hypervisor_commands(GUEST)}{nova_commands(GUEST)}")
        yield booted


def test_it_passes_the_linter() -> None:
    programs = ansible_programs()
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


def test_a_host_is_set_up_verified_and_taken_back(machine: Machine, package: Path) -> None:
    machine.path("/run/copied").mkdir()
    copied = Path("/run/copied") / package.name
    machine.path(str(copied)).write_bytes(package.read_bytes())
    present = partial(
        play,
        machine,
        package=str(copied),
        enabled=True,
        options={"proxy": {"workers": 1}},
    )
    absent = partial(present, state="absent")

    # Without a record of its instance doctor would find the host broken.
    machine.run("mkdir", "--mode=700", "/var/lib/ovs-metadata")
    machine.run(str(ROOT / ".venv/bin/ovs-metadata"), *RECORD)
    flows_before = machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats")
    assert present("--check") > 0
    assert not machine.path("/etc/ovs-metadata").exists()
    assert present() > 0
    assert "metadata" in machine.run("ovs-vsctl", "list-ports", "br-int").split()
    assert "workers = 1" in machine.path("/etc/ovs-metadata/agent.conf").read_text()
    for _ in range(2):
        assert present() == 0
        assert present("--check") == 0

    assert absent("--check") > 0
    assert absent() > 0
    assert absent() == 0
    assert "metadata" not in machine.run("ovs-vsctl", "list-ports", "br-int").split()
    assert machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats") == flows_before
    assert not machine.path("/etc/ovs-metadata").exists()
