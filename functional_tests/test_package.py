"""The Debian package: built, installed where a real systemd runs, used, and removed again.

Nothing is installed on this machine: see lab.rig.machine.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_worker_support import LOOK_AROUND
from package_fixtures import ROOT, package

from lab.rig.guest import Guest
from lab.rig.hypervisor import OURS
from lab.rig.machine import Machine
from lab.rig.machine_hypervisor import START_OVSDB, hypervisor_commands, port_set_arguments
from lab.rig.process import LabError, wait_for
from ovs_metadata.host.address import PORT_NETWORK_IPV4, PORT_NETWORK_IPV6

__all__ = ["package"]

UNIT = "ovs-metadata-agent.service"
PACKAGE = "ovs-metadata-agent"
COMMANDS = (
    *("mn-conf", "ovs-metadata", "ovs-metadata-agent", "ovs-metadata-flows"),
    "ovs-metadata-proxy",
)
SHARED = "/usr/share/ovs-metadata-agent"
EXPOSURE = 40
"""What `systemd-analyze security` may find of it, in tenths of its 10: below that it says OK."""

GUEST = Guest("guest")
pytestmark = pytest.mark.timeout(1200)  # the first of them builds the package

ASK = ("ip", "netns", "exec", GUEST.name, "curl", "-sS", "--max-time", "5")

HYPERVISOR = f"""{hypervisor_commands(GUEST)}
systemd-run --quiet --unit=nova --setenv=PYTHONPATH={ROOT}/tools \\
    /usr/bin/python3 -B -m lab.stand_ins.echo_service 127.0.0.1 8775
"""

RECORD = ("ovs-metadata", *port_set_arguments(GUEST))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine without the package."""
    with Machine(tmp_path / "machine") as booted:
        yield booted


@pytest.fixture
def hypervisor(machine: Machine, package: Path) -> Machine:
    """A machine with the package, Open vSwitch, a guest, and a stand-in for Nova."""
    machine.run("sh", "-c", HYPERVISOR)
    install(machine, package)
    return machine


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the package and nothing else, for tests that only look at what is there."""
    with Machine(tmp_path_factory.mktemp("installed") / "machine") as booted:
        install(booted, package)
        yield booted


def install(machine: Machine, package: Path) -> str:
    """Install the package as an operator does, what it depends on being there."""
    shutil.copy(package, machine.path("/run"))
    return machine.run("dpkg", "--install", f"/run/{package.name}", timeout=300)


def answer(machine: Machine) -> dict[str, str]:
    """The headers that Nova has got for the guest's request; raises LabError if it got none."""
    output = machine.run(*ASK, "--fail", "http://169.254.169.254/")
    return {name.lower(): value for name, value in json.loads(output)}


def serves(machine: Machine) -> bool:
    """Whether the guest gets its identity; raises LabError while it cannot ask."""
    return answer(machine)["x-instance-id"] == GUEST.instance_id


def journal(machine: Machine) -> str:
    """What the agent has logged."""
    return machine.run("journalctl", "--unit", UNIT, "--no-pager", "--output=cat")


def turn_on(machine: Machine) -> None:
    """Enable metadata for the deployment, and wait for it."""
    machine.run("mn-conf", "set", "-t", "default", "agent.openstack.metadata.enabled : true")
    machine.run(*RECORD)
    wait_for(lambda: serves(machine), f"the guest to be served: {journal(machine)}", 60)


def test_it_serves_as_a_service_within_its_bounds(hypervisor: Machine) -> None:
    """From installation to a guest's answer, in the sandbox of the unit as it is shipped."""
    assert hypervisor.show(UNIT, "ActiveState") == "active"
    assert "ovs-metadata" not in hypervisor.run("ip", "netns", "list")
    turn_on(hypervisor)

    # The namespace has its name on the host, though the unit has a mount namespace of its own.
    for family, network in (("-4", PORT_NETWORK_IPV4), ("-6", PORT_NETWORK_IPV6)):
        own = hypervisor.run(
            *("ip", family, "-n", "ovs-metadata", "route", "show", "table", "local")
        )
        assert f"local {network} dev metadata" in own
    accept_ra = ("cat", "/proc/sys/net/ipv6/conf/metadata/accept_ra")
    assert hypervisor.run("ip", "netns", "exec", "ovs-metadata", *accept_ra).strip() == "0"

    agent = hypervisor.show(UNIT, "MainPID")
    status = hypervisor.run("cat", f"/proc/{agent}/status")
    allowed = int(re.findall(r"^CapEff:\s*(\S+)", status, re.MULTILINE)[0], 16)
    assert allowed.bit_count() == 7
    writing = ("nsenter", f"--mount=/proc/{agent}/ns/mnt", "touch", "/etc/ovs-metadata/new")
    with pytest.raises(LabError, match="Read-only file system"):
        hypervisor.run(*writing)
    users = hypervisor.run("ps", "-o", "user=", "-C", "python", "--no-headers", "-ww")
    assert users.split().count("ovs-met+") == 2 or users.split().count("ovs-metadata") == 2

    hypervisor.run("mn-conf", "set", "-t", "default", "agent.openstack.metadata.enabled : false")
    wait_for(
        lambda: "ovs-metadata" not in hypervisor.run("ip", "netns", "list"),
        "the namespace to go when metadata is disabled",
        30,
    )


def test_sockets_and_flows_outlive_a_restart(hypervisor: Machine) -> None:
    """A restart keeps listening sockets in systemd; one that hangs is noticed and restarted."""
    turn_on(hypervisor)
    hypervisor.run("systemctl", "restart", UNIT)
    wait_for(lambda: serves(hypervisor), "the guest to be served after a restart", 30)
    assert "reusing the 4 listening sockets of the previous run" in journal(hypervisor)

    # The same unit, but for how long the watchdog waits.
    hypervisor.path("/run/systemd/system").mkdir(exist_ok=True)
    quick = hypervisor.path(f"/run/systemd/system/{UNIT}.d")
    quick.mkdir()
    (quick / "quick.conf").write_text("[Service]\nWatchdogSec=3\n")
    hypervisor.run("systemctl", "daemon-reload")
    hypervisor.run("systemctl", "restart", UNIT)
    wait_for(lambda: serves(hypervisor), "the guest to be served with a quick watchdog", 30)
    pid = hypervisor.show(UNIT, "MainPID")
    hypervisor.run("kill", "-STOP", pid)
    wait_for(lambda: hypervisor.show(UNIT, "MainPID") not in (pid, "0"), "the watchdog", 120)
    wait_for(lambda: serves(hypervisor), "the guest to be served after a hang", 30)
    assert hypervisor.show(UNIT, "NRestarts") == "1"


BREAK_IN = """
import sys
module = "ovs_metadata.proxy.main"
if module in sys.orig_argv:
    import json, os, time
    sys.argv = ["worker", *sys.orig_argv[sys.orig_argv.index(module) + 1 :]]
    from ovs_metadata.proxy import main

    def tell(value):
        os.write(2, f"FOUND {json.dumps(value)}\\n".encode())
        time.sleep(600)

    async def attacked(options):
        names = {"listen_fds": options.listen_fd, "tell": tell}
        exec(ATTACK, names)

    main._run_by_feed = attacked
    try:
        main.main()
    finally:
        os._exit(1)
"""
"""As `sitecustomize` it is in every Python; the workers' runs an attack in place of its service."""


def test_a_worker_that_was_broken_into_is_confined_as_anywhere(hypervisor: Machine) -> None:
    directory = hypervisor.path("/usr/lib/break-in")
    directory.mkdir()
    user = "ovs-metadata"
    hypervisor.run("systemd-run", "--quiet", "--unit=other", f"--uid={user}", "sleep", "infinity")
    attack = LOOK_AROUND.replace("OTHER_PID", hypervisor.show("other", "MainPID"))
    (directory / "sitecustomize.py").write_text(BREAK_IN.replace("ATTACK", repr(attack)))
    hypervisor.path("/run/systemd/system").mkdir(exist_ok=True)
    changed = hypervisor.path(f"/run/systemd/system/{UNIT}.d")
    changed.mkdir()
    (changed / "break-in.conf").write_text("[Service]\nEnvironment=PYTHONPATH=/usr/lib/break-in\n")
    hypervisor.run("systemctl", "daemon-reload")
    hypervisor.run("systemctl", "restart", UNIT)
    hypervisor.run("mn-conf", "set", "-t", "default", "agent.openstack.metadata.enabled : true")
    lines = wait_for(
        lambda: re.findall(r"proxy worker \d: FOUND (\{.*\})$", journal(hypervisor), re.MULTILINE),
        "an attack",
        60,
    )
    found = json.loads(lines[-1])
    assert found["session"] == found["pid"]
    assert found["directory"] == "/"
    assert found["files"] == []
    assert (found["core"], found["dumpable"], found["no_new_privileges"]) == ([0, 0], 0, 1)
    refused = {"fork", "execute", "stop another", "slow down another", "steer", "lock"}
    assert {found[each] for each in refused} == {"Operation not permitted"}
    assert found["unix"] == "Address family not supported by protocol"
    assert (found["thread"], found["name"]) == ("done", True)

    status = hypervisor.run("cat", f"/proc/{found['pid']}/status")
    values = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
    assert (values["Seccomp"], values["NoNewPrivs"], int(values["CapEff"], 16)) == ("2", "1", 0)
    uid = hypervisor.run("id", "--user", user).strip()
    assert values["Uid"].split() == [uid] * 4
    hypervisor.run("kill", "-KILL", hypervisor.show(UNIT, "MainPID"))
    gone = ("sh", "-c", f"[ ! -e /proc/{found['pid']} ] && echo gone")
    wait_for(lambda: hypervisor.run(*gone), "the worker to end with its agent", 20)


def test_removed_it_leaves_nothing(machine: Machine, package: Path) -> None:
    """Started by hand, as on a machine without systemd, then removed and purged."""
    machine.run("sh", "-c", HYPERVISOR)
    flows_before = machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats")
    before = files(machine)
    install(machine, package)
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemd-run", "--quiet", "--unit=by-hand", "ovs-metadata-agent")
    turn_on(machine)
    assert modes(machine) == {"agent.conf": "644", "ovs-metadata": "700"}

    machine.run("systemctl", "stop", "by-hand")
    machine.run("dpkg", "--remove", PACKAGE)
    assert "metadata" not in machine.run("ovs-vsctl", "list-ports", "br-int").split()
    assert "ovs-metadata" not in machine.run("ip", "netns", "list")
    assert machine.run("ovs-ofctl", "dump-flows", "br-int", "--no-stats") == flows_before
    assert machine.run("cat", "/etc/ovs-metadata/agent.conf")

    machine.run("dpkg", "--purge", PACKAGE)
    left = {path for path in files(machine) - before if not path.startswith(("var/log/", "run/"))}
    # dpkg's own books, and those of users: Debian leaves the user, so that its number stays taken.
    assert {path for path in left if "ovs-metadata" in path} == set()
    assert {path.split("/")[0] for path in left} <= {"etc", "var"}
    assert machine.run("getent", "passwd", "ovs-metadata").endswith(":/usr/sbin/nologin\n")


def test_what_could_not_be_removed_with_it_is_removed_as_it_says(hypervisor: Machine) -> None:
    """Without OVSDB nothing can be; with it again, ovs-vswitchd still has our flows."""
    turn_on(hypervisor)
    hypervisor.run("systemctl", "stop", "ovsdb")
    removing = hypervisor.command("dpkg", "--remove", PACKAGE)
    done = subprocess.run(removing, capture_output=True, text=True, check=False)
    hypervisor.run("sh", "-c", START_OVSDB)
    assert done.returncode == 0, done.stderr
    flows = ("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br-int", OURS)
    assert "table=0" in hypervisor.run(*flows)
    commands = re.findall(r"^  (ovs-.*)$", done.stderr, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        hypervisor.run("sh", "-c", command)
    assert "table=0" not in hypervisor.run(*flows)
    assert "metadata" not in hypervisor.run("ovs-vsctl", "list-ports", "br-int").split()
    assert "ovs-metadata" not in hypervisor.run("ip", "netns", "list")


def files(machine: Machine) -> set[str]:
    """What the machine has written so far, without what it has removed."""
    found = set()
    for directory, _, names in os.walk(machine.upper):
        for path in (Path(directory) / name for name in names):
            if path.is_symlink() or not path.is_char_device():
                found.add(str(path.relative_to(machine.upper)))
    return found


def modes(machine: Machine) -> dict[str, str]:
    """Who may read what: the configuration, and the directory of state."""
    paths = ("/etc/ovs-metadata/agent.conf", "/var/lib/ovs-metadata")
    lines = machine.run("stat", "--format=%n %a", *paths).splitlines()
    return {Path(name).name: mode for name, mode in (line.split() for line in lines)}


def test_commands_manual_pages_and_completions_are_installed(installed: Machine) -> None:
    for command in COMMANDS:
        if command != "ovs-metadata-proxy":
            assert installed.run(command, "--version")
        assert command in installed.run("man", "-E", "UTF-8", command)
        warnings = f"man --warnings -E UTF-8 {command} 2>&1 >/dev/null"
        assert installed.run("sh", "-c", warnings) == ""
    completed = installed.run(
        *("env", "COMP_WORDS=ovs-metadata po", "COMP_CWORD=1"),
        *("_OVS_METADATA_COMPLETE=bash_complete", "ovs-metadata"),
    )
    assert "port" in completed
    for directory, name in (
        ("bash-completion/completions", "{}"),
        ("zsh/vendor-completions", "_{}"),
    ):
        for command in COMMANDS:
            script = f"/usr/share/{directory}/{name.format(command)}"
            assert command in installed.run("cat", script), script


@pytest.mark.parametrize(
    "command", [("port", "sync", "--from-neutron"), ("cleanup", "dhcp-ports")], ids=" ".join
)
def test_commands_that_ask_neutron_lack_nothing_but_neutron(
    installed: Machine, command: tuple[str, ...]
) -> None:
    """The commands that doctor and docs/migration.md give operators, run where they say."""
    asking = installed.command("ovs-metadata", *command, "--os-endpoint", "http://127.0.0.1:9")
    done = subprocess.run(asking, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "http://127.0.0.1:9" in done.stderr
    assert "not installed" not in done.stderr


def test_what_is_beside_the_commands_is_installed(installed: Machine) -> None:
    assert "--restore-file" in installed.run(f"{SHARED}/remove_dhcp_ports.sh", "--help")
    for path in (ROOT / "packaging" / "monitoring").iterdir():
        assert installed.run("cat", f"{SHARED}/monitoring/{path.name}") == path.read_text()


def test_the_unit_is_right_and_tight(installed: Machine) -> None:
    done = subprocess.run(
        installed.command("systemd-analyze", "verify", "--recursive-errors=no", UNIT),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    installed.run("systemd-analyze", "security", f"--threshold={EXPOSURE}", UNIT)
