"""The commands of the documentation work as they are printed there.

On a machine of its own (lab.rig.machine) with Open vSwitch, a stand-in for Nova and a guest plugged
in under the ids the pages use. docs.docs_commands says which commands are run.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from docs.docs_commands import INPUT, Block, blocks
from lab.rig.guest import Guest
from lab.rig.hypervisor import instance_of
from lab.rig.machine import Machine
from lab.rig.machine_hypervisor import hypervisor_commands
from lab.rig.process import LabError, wait_for
from lab.stand_ins.metadata_instance import dump_instances

# The installation and a page are up to 33 commands. Most of them start Python, beside other tests.
pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[1]
UNIT = "ovs-metadata-agent.service"
BY_HAND = "by-hand.service"
INSTALLING = re.compile(r"-m venv |pip install ")

GUEST = Guest(
    "guest",
    mac="fa:16:3e:00:00:01",
    address="10.0.0.5/24",
    port_id="40ab441b-c21d-4c9c-b0af-6a8fc48ab733",
    instance_id="f0517a6b-1cd5-4107-97bf-35269be6530b",
    project_id="099e090f93274f049f52e81fa2ac8e51",
    network_id="40ac49ec-c8a0-4a62-b533-e90b838b57f9",
)
"""The one that the pages speak of."""

# A virtual environment is where the pages have it: this one, seen through the machine's overlay.
SURROUNDINGS = f"""{hypervisor_commands(GUEST)}
ln -s {ROOT}/.venv /opt/ovs-metadata
echo 127.0.0.1 localhost controller "$(hostname)" >/etc/hosts
systemd-run --quiet --unit=nova --setenv=PYTHONPATH={ROOT}/tools {ROOT}/.venv/bin/python -B \\
    -m lab.stand_ins.metadata_service --instances /run/instances.json --secret-file /run/nova-secret
"""

# The tree, and with it the virtual environment, may be in a home directory, or in /tmp.
SEES_THE_TREE = f"""
mkdir -p /etc/systemd/system/{UNIT}.d
printf '[Service]\\nProtectHome=no\\nPrivateTmp=no\\n' >/etc/systemd/system/{UNIT}.d/tree.conf
"""

KNOWN = f"""
ovs-metadata port set {GUEST.port_id} --instance {GUEST.instance_id} --project {GUEST.project_id} \\
    --mac {GUEST.mac} --fixed-ip {GUEST.ip} --network {GUEST.network_id}
"""

CONFIGURED = """
set -eu
mn-conf set -t default 'agent.openstack.metadata.nova_metadata_url : "http://controller:8775"'
mn-conf set -t default --secret-file /run/nova-secret
mn-conf set -t default 'agent.openstack.metadata.enabled : true'
"""

NEUTRONS_FILE = f"""\
[DEFAULT]
nova_metadata_host = controller
metadata_proxy_shared_secret = {INPUT}
"""

README, INSTALLING_IT, MIGRATION = "README.md", "docs/install.md", "docs/migration.md"
"""Pages whose commands need something else than a host that serves."""


def pages(*exceptions: str) -> dict[str, Sequence[Block]]:
    """Pages that have commands to run, and these."""
    names = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
    found = {name: blocks(name, (ROOT / name).read_text()) for name in names}
    return {name: some for name, some in found.items() if some and name not in exceptions}


def machine_with_surroundings(machine: Machine) -> Machine:
    machine.path("/run/instances.json").write_text(dump_instances([instance_of(GUEST)]))
    for path in ("/run/nova-secret", "/root/shared-secret"):
        machine.path(path).write_text(INPUT)
        machine.path(path).chmod(0o600)
    machine.run("sh", "-c", SURROUNDINGS)
    return machine


def serves(machine: Machine) -> bool:
    """Whether the guest gets its identity; raises LabError while it cannot ask."""
    url = "http://169.254.169.254/openstack/latest/meta_data.json"
    ask = ("ip", "netns", "exec", GUEST.name, "curl", "-sS", "--max-time", "5", "--fail", url)
    return GUEST.instance_id in machine.run(*ask)


class Operator:
    """Types what the pages say; the agent of the foreground is another terminal's."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._by_hand = False

    def type(self, block: Block) -> None:
        """Run a block; what was just changed may need a moment until the next command sees it."""
        if block.foreground:
            agent = f"/opt/ovs-metadata/bin/{block.text.strip()}"
            self._machine.run("systemd-run", "--quiet", f"--unit={BY_HAND}", agent)
            self._by_hand = True
            wait_for(self._agent_is_there, f"{block}: the agent's metadata port", 30)
            return
        if self._by_hand and "ovs-metadata-agent" in block.text:
            self._machine.run("systemctl", "stop", BY_HAND)
            self._by_hand = False
        wait_for(lambda: self._done(block), f"{block} to succeed", 20)

    def _agent_is_there(self) -> bool:
        own = self._machine.run(*["ip", "-n", "ovs-metadata", "route", "show", "table", "local"])
        return "169.254.0.0/16" in own

    def _done(self, block: Block) -> bool:
        # The machine reaches no package index; that our package installs is test_distributions'.
        lines = [line for line in block.text.splitlines() if not INSTALLING.search(line)]
        script = "\n".join(
            (f"set -euo pipefail; cd {ROOT}", "PATH=$PATH:/opt/ovs-metadata/bin", *lines)
        )
        done = subprocess.run(
            self._machine.command("bash", "-c", script),
            input=INPUT,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode:
            raise LabError(f"exit status {done.returncode}: {done.stdout}{done.stderr}")
        assert "Traceback" not in done.stderr
        return True


def test_the_readme_leads_from_nothing_to_a_served_instance_and_back(tmp_path: Path) -> None:
    with Machine(tmp_path / "machine") as machine:
        machine_with_surroundings(machine)
        operator = Operator(machine)
        served = False
        for block in pages()[README]:
            operator.type(block)
            if "port set" in block.text:
                wait_for(lambda: serves(machine), "the guest to be served", 30)
                served = True
        assert served
        assert "ovs-metadata" not in machine.run("ip", "netns", "list")
        assert "metadata" not in machine.run("ovs-vsctl", "list-ports", "br-int").split()


def installed(machine: Machine) -> Operator:
    """Install as docs/install.md has it for the wheel, with a guest whose record there is."""
    machine_with_surroundings(machine)
    machine.run("sh", "-c", SEES_THE_TREE)
    operator = Operator(machine)
    for block in pages()[INSTALLING_IT]:
        operator.type(block)
    machine.run("sh", "-c", KNOWN)
    return operator


def test_a_host_goes_over_and_back_as_the_page_on_migration_says(tmp_path: Path) -> None:
    """Without a Neutron; it has left its configuration."""
    with Machine(tmp_path / "machine") as machine:
        operator = installed(machine)
        ini = machine.path("/etc/neutron/metadata_agent.ini")
        ini.parent.mkdir()
        ini.write_text(NEUTRONS_FILE)
        served = False
        for block in pages()[MIGRATION]:
            operator.type(block)
            if "migrate enable" in block.text:
                wait_for(lambda: serves(machine), "the guest to be served", 30)
                served = True
        assert served
        assert "ovs-metadata" not in machine.run("ip", "netns", "list")
        assert "metadata" not in machine.run("ovs-vsctl", "list-ports", "br-int").split()


@pytest.mark.parametrize("page", pages(README, INSTALLING_IT, MIGRATION))
def test_commands_of_a_page_on_a_hypervisor_that_serves(page: str, tmp_path: Path) -> None:
    with Machine(tmp_path / "machine") as machine:
        operator = installed(machine)
        machine.run("sh", "-c", CONFIGURED)
        wait_for(lambda: serves(machine), "the guest to be served", 60)
        for block in pages()[page]:
            operator.type(block)
        wait_for(lambda: serves(machine), "the guest to be served after all commands", 30)
