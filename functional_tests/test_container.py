"""The image: built from the package, run by podman where a real systemd runs, replaced, removed.

`tools/test system container` runs it; see conftest. Nothing is installed on this machine.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from package_fixtures import ROOT, package

from lab.rig.cgroups import MOUNTS, hierarchies
from lab.rig.guest import Guest
from lab.rig.machine import Machine
from lab.rig.machine_hypervisor import hypervisor_commands, port_set_arguments
from lab.rig.process import LabError, run, wait_for

__all__ = ["package"]

pytestmark = pytest.mark.timeout(1800)

CONTAINER = ROOT / "packaging" / "container"
AGENT, KEEPER = "ovs-metadata-agent", "ovs-metadata-sockets"
GUEST = Guest("guest")
ASK = ("ip", "netns", "exec", GUEST.name, "curl", "-sS", "--max-time", "40", "--fail")

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

HYPERVISOR = f"""{hypervisor_commands(GUEST)}
systemd-run --quiet --unit=nova --setenv=PYTHONPATH={ROOT}/tools \\
    /usr/bin/python3 -B -m lab.stand_ins.echo_service 127.0.0.1 8775
mkdir -p /etc/ovs-metadata /etc/containers
cp {ROOT}/packaging/agent.conf /etc/ovs-metadata/
"""

RECORD = ("ovs-metadata", *port_set_arguments(GUEST))


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
    headers = json.loads(machine.run(*ASK, "http://169.254.169.254/"))
    found = {name.lower(): value for name, value in headers}
    return bool(found["x-instance-id"] == GUEST.instance_id)


def logs(machine: Machine) -> str:
    """What the agent of this container has logged."""
    command = machine.command("podman", "logs", AGENT)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_it_serves_is_replaced_unnoticed_and_leaves_nothing(machine: Machine) -> None:
    flows_before = machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats")
    start(machine)
    enable = ("mn-conf", "set", "-t", "default", "agent.openstack.metadata.enabled : true")
    inside(machine, *enable)
    inside(machine, *RECORD)
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
    assert "serving" in inside(machine, "ovs-metadata", "status")


def _asked_during(machine: Machine, act: Callable[[], None]) -> tuple[float, list[str]]:
    """Ask again and again until an action is over; the slowest request, and how others failed."""
    over = threading.Event()
    times: list[float] = []
    failed: list[str] = []

    def ask() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                run(*machine.command(*ASK, "http://169.254.169.254/"), timeout=50)
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
