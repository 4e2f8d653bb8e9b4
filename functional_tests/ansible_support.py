"""The Ansible role, played by a machine (lab.rig.machine) against itself."""

import json
import re

from package_fixtures import ROOT

from lab.rig.machine import Machine
from lab.upstream.ansible_install import ansible_programs

ROLE = ROOT / "packaging" / "ansible"

_INVENTORY = """
[hypervisors]
localhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3
"""
_COUNTS = re.compile(r"ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)")


def play(machine: Machine, *arguments: str, **variables: object) -> int:
    """Play it with variables of the role, given without their prefix.

    Returns:
        how many tasks changed something, or would, in check mode.
    """
    directory = machine.path("/run/play")
    directory.mkdir(exist_ok=True)
    (directory / "inventory").write_text(_INVENTORY)
    values = {f"ovs_metadata_agent_{name}": value for name, value in variables.items()}
    output = machine.run(
        *("env", "HOME=/root", str(ansible_programs() / "ansible-playbook"), *arguments),
        *("--inventory", "/run/play/inventory", "-e", json.dumps(values), ROLE / "playbook.yml"),
        timeout=900,
    )
    found = _COUNTS.search(output)
    assert found, output
    assert found.group(3, 4) == ("0", "0"), output
    return int(found.group(2))
