"""The RPM: built, installed with its scripts where a real systemd runs, reinstalled, removed.

`tools/test system rpm` runs it; see conftest. The machine is this Debian, with rpm's own list of
packages: dependencies on packages of a system of RPMs are not looked at.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from package_fixtures import ROOT, package
from test_package import HYPERVISOR, PACKAGE, UNIT, files, journal, modes, serves, turn_on

from lab.rig.machine import Machine
from lab.rig.process import run, wait_for

__all__ = ["package"]

pytestmark = pytest.mark.timeout(1800)

ENVIRONMENT = "/usr/lib/ovs-metadata/"
LIBRARIES = "/usr/share/doc/ovs-metadata-agent/python-packages.txt"
# The list of installed packages is the machine's: it has no home directory.
RPM = ("rpm", "--dbpath=/var/lib/rpm", "--force-debian", "--nodeps")

OTHER_USERS = """
chown -R daemon /run/openvswitch
find /run/openvswitch -type s -exec chmod 0750 {} +
"""


@pytest.fixture(scope="module")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built RPM, for this machine's Python."""
    into = tmp_path_factory.mktemp("rpm")
    run(ROOT / "tools" / "build-rpm", into, timeout=900)
    (built,) = into.glob("*.rpm")
    return built


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A hypervisor without the agent; its Open vSwitch is another user's, as of RPMs."""
    with Machine(tmp_path / "machine") as booted:
        booted.run("sh", "-c", f"{HYPERVISOR}{OTHER_USERS}")
        yield booted


def test_it_has_the_environment_of_the_debian_package(rpm: Path, package: Path) -> None:
    """The same files, and so the same libraries, in the same releases."""
    listed = run("rpm", "--query", "--list", "--package", rpm).splitlines()
    tar = ("sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar --list', package)
    debian = [line.removeprefix(".").removesuffix("/") for line in run(*tar).splitlines()]
    assert {path for path in listed if path.startswith(ENVIRONMENT)} == {
        path for path in debian if path.startswith(ENVIRONMENT)
    }
    cpio = 'rpm2cpio "$0" | cpio --extract --quiet --to-stdout ".$1"'
    tar_one = 'dpkg-deb --fsys-tarfile "$0" | tar --extract --to-stdout ".$1"'
    assert run("sh", "-c", cpio, rpm, LIBRARIES) == run("sh", "-c", tar_one, package, LIBRARIES)
    assert rpm.with_suffix(".cdx.json").exists()


def test_it_serves_is_reinstalled_unnoticed_and_leaves_the_store_alone(
    machine: Machine, rpm: Path
) -> None:
    flows_before = machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats")
    before = files(machine)
    shutil.copy(rpm, machine.path("/run"))
    machine.run(*RPM, "--install", f"/run/{rpm.name}", timeout=300)
    # Of a system of RPMs systemd's own package has a trigger for that.
    machine.run("systemctl", "daemon-reload")
    assert machine.run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert machine.show(UNIT, "ActiveState") == "inactive"
    assert machine.run("getent", "passwd", "ovs-metadata").endswith(":/usr/sbin/nologin\n")
    machine.run("systemctl", "start", UNIT)
    turn_on(machine)
    assert modes(machine) == {"agent.conf": "644", "ovs-metadata": "700"}

    agent = machine.show(UNIT, "MainPID")
    machine.run(*RPM, "--reinstall", f"/run/{rpm.name}", timeout=300)
    wait_for(lambda: machine.show(UNIT, "MainPID") not in (agent, "0"), "the agent's restart", 60)
    wait_for(lambda: serves(machine), f"the guest to be served: {journal(machine)}", 60)
    assert "listening sockets of the previous run" in journal(machine)

    machine.run(*RPM, "--erase", PACKAGE)
    assert machine.show(UNIT, "ActiveState") == "inactive"
    assert "metadata" not in machine.run("ovs-vsctl", "list-ports", "br-int").split()
    assert "ovs-metadata" not in machine.run("ip", "netns", "list")
    assert machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats") == flows_before
    left = {path for path in files(machine) - before if "ovs-metadata" in path}
    assert {
        path for path in left if not path.startswith(("run/", "var/lib/ovs-metadata/"))
    } == set()
