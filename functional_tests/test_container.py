"""The image: built from the package, run by podman where a real systemd runs, replaced, removed.

Then the Ansible role does it with containers, and takes the host back.

`tools/test system container` runs it; see conftest. Nothing is installed on this machine.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from ansible_support import play
from package_fixtures import ROOT, package

from lab.rig.cgroups import MOUNTS, hierarchies
from lab.rig.guest import Guest
from lab.rig.machine import Machine
from lab.rig.machine_hypervisor import hypervisor_commands, nova_commands, port_set_arguments
from lab.rig.process import LabError, run, wait_for

__all__ = ["package"]

pytestmark = pytest.mark.timeout(1800)

CONTAINER = ROOT / "packaging" / "container"
AGENT, KEEPER = "ovs-metadata-agent", "ovs-metadata-sockets"
GUEST = Guest("guest")
URL = "http://169.254.169.254/openstack/latest/meta_data.json"
ASK = ("ip", "netns", "exec", GUEST.name, "curl", "-sS", "--max-time", "40", "--fail", URL)

# A machine within a machine may neither raise limits nor filter devices.
CONTAINERS_CONF = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=16384:16384", "nproc=8192:8192"]
[engine]
runtime = "crun"
events_logger = "file"
"""
STORAGE_CONF = """
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
"""

HYPERVISOR = f"""{hypervisor_commands(GUEST)}{nova_commands(GUEST)}
mkdir -p /etc/containers
"""

RECORD = port_set_arguments(GUEST)
STORE = ("--store", "directory:/var/lib/ovs-metadata/store")


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A hypervisor with podman and the image, and no agent."""
    directory = tmp_path_factory.mktemp("container")
    version_2 = [each for each in hierarchies(MOUNTS.read_text()) if each.below == "."]
    with Machine(directory / "machine", version_2[0]) as booted:
        booted.run("sh", "-c", HYPERVISOR)
        for name, text in (("containers", CONTAINERS_CONF), ("storage", STORAGE_CONF)):
            booted.path(f"/etc/containers/{name}.conf").write_text(text)
        engine = directory / "podman"
        engine.write_text(f'#!/bin/sh\nexec {" ".join(booted.command("podman"))} "$@"\n')
        engine.chmod(0o755)
        environment = {**os.environ, "ENGINE": str(engine)}
        subprocess.run([CONTAINER / "build", package], env=environment, check=True, timeout=1200)
        yield booted


def start(machine: Machine) -> None:
    """Start the containers, or replace the agent's."""
    machine.run(CONTAINER / "run", timeout=300)


def inside(machine: Machine, *command: str, timeout: float = 60) -> str:
    """Run a command in the agent's container."""
    return machine.run("podman", "exec", AGENT, *command, timeout=timeout)


def serves(machine: Machine) -> bool:
    """Whether the guest gets its identity; raises LabError while it cannot ask."""
    return GUEST.instance_id in machine.run(*ASK)


def logs(machine: Machine) -> str:
    """What the agent of this container has logged."""
    command = machine.command("podman", "logs", AGENT)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_it_serves_is_replaced_unnoticed_and_leaves_nothing(machine: Machine) -> None:
    flows_before = machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats")
    configuration = ROOT / "packaging" / "agent.conf"
    machine.run("install", "-D", "-m", "644", configuration, "/etc/ovs-metadata/agent.conf")
    start(machine)
    enable = ("mn-conf", "set", "-t", "default", "agent.openstack.metadata.enabled : true")
    inside(machine, *enable)
    inside(machine, "ovs-metadata", *RECORD)
    try:
        wait_for(lambda: serves(machine), "the guest to be served", 60)
    except LabError as error:
        raise LabError(f"{error}: {logs(machine)}") from None
    _is_bounded(machine)

    slowest, failed = _asked_during(machine, lambda: start(machine))
    wait_for(lambda: "listening sockets of the previous run" in logs(machine), "its sockets", 60)
    assert "reusing the" in logs(machine)
    sys.stdout.write(f"replaced: slowest request {slowest:.1f} s, failed: {failed}\n")
    assert failed == []

    machine.run("podman", "rm", "--force", KEEPER)
    slowest, failed = _asked_during(machine, lambda: start(machine))
    sys.stdout.write(
        f"replaced without what keeps sockets: slowest {slowest:.1f} s, failed: {len(failed)}\n"
    )
    wait_for(lambda: serves(machine), "the guest to be served by new sockets", 60)

    machine.run(CONTAINER / "run", "--remove", timeout=300)
    assert machine.run("podman", "ps", "--all", "--quiet") == ""
    assert "metadata" not in machine.run("ovs-vsctl", "list-ports", "br-int").split()
    assert "ovs-metadata" not in machine.run("ip", "netns", "list")
    assert machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats") == flows_before


def test_the_role_sets_containers_up_verifies_them_and_takes_them_back(machine: Machine) -> None:
    machine.run("podman", "save", "--output", "/srv/image.tar", AGENT, timeout=300)
    present = partial(
        play, machine, method="container", image="/srv/image.tar", enabled=True, options={}
    )
    absent = partial(present, state="absent")

    # Without a record of its instance doctor would find the host broken.
    machine.run("install", "-d", "-m", "700", "/var/lib/ovs-metadata")
    machine.run(ROOT / ".venv/bin/ovs-metadata", *STORE, *RECORD)
    flows_before = machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats")
    assert present("--check") > 0
    assert machine.run("podman", "ps", "--all", "--quiet") == ""
    assert present() > 0
    assert serves(machine)
    assert present() == 0
    assert present("--check") == 0

    assert absent("--check") > 0
    assert serves(machine)
    assert absent() > 0
    assert absent() == 0
    assert machine.run("podman", "ps", "--all", "--quiet") == ""
    assert machine.run("podman", "images", "--quiet") == ""
    assert "metadata" not in machine.run("ovs-vsctl", "list-ports", "br-int").split()
    assert "ovs-metadata" not in machine.run("ip", "netns", "list")
    assert machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats") == flows_before
    for path in ("/etc/ovs-metadata", "/var/lib/ovs-metadata", "/run/ovs-metadata"):
        assert not machine.path(path).exists()


def _is_bounded(machine: Machine) -> None:
    """It may do what the file says, and its health is known."""
    script = (CONTAINER / "run").read_text()
    added = set(re.findall(r"--cap-add (\w+)", script))
    status = inside(machine, "cat", "/proc/1/status")
    effective = int(re.findall(r"^CapEff:\s*(\S+)", status, re.MULTILINE)[0], 16)
    assert effective.bit_count() == len(added)
    with pytest.raises(LabError, match="Read-only file system"):
        inside(machine, "touch", "/usr/new")
    machine.run("podman", "healthcheck", "run", AGENT)
    # The namespace has its name on the host, where the settings of its device are right.
    accept_ra = ("cat", "/proc/sys/net/ipv6/conf/metadata/accept_ra")
    assert machine.run("ip", "netns", "exec", "ovs-metadata", *accept_ra).strip() == "0"
    # Workers report at intervals that Nova has answered; until then the status is 1.
    wait_for(lambda: "serving" in inside(machine, "ovs-metadata", "status"), "its status", 60)


def _asked_during(machine: Machine, act: Callable[[], None]) -> tuple[float, list[str]]:
    """Ask again and again until an action is over; the slowest request, and how others failed."""
    over = threading.Event()
    times: list[float] = []
    failed: list[str] = []

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                run(*machine.command(*ASK), timeout=50)
            except LabError as error:
                failed.append(str(error))
            times.append(time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        act()
        wait_for(lambda: serves(machine), "the guest to be served", 60)
    finally:
        over.set()
        asking.join()
    return max(times), failed
