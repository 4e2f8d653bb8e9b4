"""Finding, advice, cured: each fault is made, and what the doctor prints is done, to the letter.

The first finding that has commands is followed first; then the doctor is asked
again. Where a command has a word that only the operator knows, the case says it. The rig has no
systemd: `systemctl` ends the agent and starts it, as the unit does.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import doctor_faults_deployment
import doctor_faults_host
import doctor_faults_port
import pytest
from doctor_support import Case, Result, Ward, patient

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import LabError, wait_for
from lab.stand_ins.neutron_port import make_port
from lab.stand_ins.neutron_ports_stand_in import NeutronPorts
from ovs_metadata.agent.network.namespaces import inside_namespace
from ovs_metadata.cli.doctor.hops import FAULTS

__all__ = ["patient"]

RESTART = "systemctl restart ovs-metadata-agent"

OF_THE_RIG = {"nova-certificate-expires"}
"""Certificates of the lab are valid for a day."""

ROUNDS = 4
"""Commands after which a host has to be well: one fault may hide another."""

ELSEWHERE = {
    # Another one cures it, and the advice names who.
    "dead-vlan": "Neutron's agent wires the port",
    "not-an-instance": "nothing is wrong",
    "port-unknown": "the operator's spelling",
    "port-not-here": "Nova plugs the port",
    "ofport-missing": "Nova plugs the port",
    "record-without-address": "Neutron gives the port an address",
    "instance-unknown-to-nova": "Neutron has the record",
    "nova-silent": "Nova",
    "nova-fails": "Nova",
    "secret-unchecked": "Nova",
    "nova-certificate-expires": "Nova",
    "certificate-expires": "the authority",
    "process-ends-again": "what ends the process",
    "reconciliation-late": "Neutron's server",
    "removals-withheld": "Neutron's operator",
    "nova-certificate-dates": "Nova, or the clock",
    "no-answer-from-nova": "Nova",
    "answered-with-error": "Nova",
    "flows-deleted": "the program that deletes them",
    "answers-not-taken": "inside the instance",
    "request-unanswered": "a flow that takes the doctor's own packets alone",
}


WITH_OVN = {"chassis-unknown"}
"""Cured by its advice in test_ovn_records."""


def dumped(hypervisor: Hypervisor) -> Path:
    """What `mn-conf dump -t default` wrote while all was well."""
    path = hypervisor.root / "dump.conf"
    path.write_text(
        "agent.openstack.metadata { enabled : true\n"
        f'nova_metadata_url : "{hypervisor.nova}"\nshared_secret : "{hypervisor.secret}" }}\n'
    )
    return path


def words_of(hypervisor: Hypervisor, port_id: str) -> dict[str, str]:
    """What an operator writes in place of the words in capital letters."""
    return {
        "SECRET_FILE": str(hypervisor.root / "shared-secret"),
        "CA_FILE": str(hypervisor.root / "authority" / "ca.pem"),
        "DUMP_FILE": str(dumped(hypervisor)),
        "URL": hypervisor.nova,
        "external_ids:iface-id=PORT": f"external_ids:iface-id={port_id}",
    }


def follow(patient: Ward, command: str, bin_directory: Path) -> None:
    """Do what a line says, in a shell on the hypervisor."""
    hypervisor = patient.hypervisor
    if command == RESTART:
        hypervisor.processes["agent"].stop()
        hypervisor.start_agent()
        return
    for word, meant in words_of(hypervisor, patient.guest.port_id).items():
        command = command.replace(word, meant)
    path = f"{bin_directory}:{os.environ['PATH']}"
    inside = ("nsenter", f"--net=/run/netns/{hypervisor.namespace}", "sh", "-ec", command)
    done = subprocess.run(
        inside, env={**os.environ, "PATH": path}, text=True, capture_output=True, check=False
    )
    # The agent ends a controller that has stopped, and may have been faster than the advice.
    replaced = command.startswith("kill -CONT") and "No such process" in done.stderr
    assert done.returncode == 0 or replaced, f"{command}: {done.stderr}"


def first_commands(found: Result, followed: set[str]) -> list[str]:
    """What the first finding says to do that has not been done."""
    for finding in found.document["findings"]:
        commands = [each for each in finding["commands"] if each not in followed]
        if commands and finding["severity"] != "note":
            return commands
    return []


def cure(patient: Ward, word: str) -> list[str]:
    """Follow the doctor until it finds nothing; returns the commands."""
    followed: list[str] = []
    found = patient.doctor(*([word] if word else []))
    for _ in range(ROUNDS):
        commands = first_commands(found, set(followed))
        if not commands:
            break
        for command in commands:
            follow(patient, command, Path(sys.executable).parent)
            followed.append(command)
        with contextlib.suppress(LabError):
            wait_for(lambda: patient.doctor(patient.guest.port_id).names <= OF_THE_RIG, "a cure", 8)
            return followed
        found = patient.doctor(*([word] if word else []))
    raise AssertionError(f"after {followed} the doctor finds {found.names}")


@pytest.fixture(scope="module", autouse=True)
def neutron(patient: Ward) -> Iterator[None]:
    """A Neutron that has the guest's port; the credentials for it are in the environment."""
    guest = patient.guest
    port = make_port(
        1,
        id=guest.port_id,
        device_id=guest.instance_id,
        project_id=guest.project_id,
        mac_address=guest.mac,
        fixed_ips=[{"subnet_id": guest.network_id, "ip_address": guest.ip}],
        network_id=guest.network_id,
    )
    with inside_namespace(patient.hypervisor.namespace):
        made = NeutronPorts([port])
    with made as api, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OS_AUTH_TYPE", "none")
        environment.setenv("OS_NETWORK_ENDPOINT_OVERRIDE", api.url)
        yield


@contextlib.contextmanager
def made(patient: Ward, case: Case) -> Iterator[None]:
    """The fault; it may be gone when the block ends."""
    with contextlib.suppress(LabError), contextlib.ExitStack() as fault:
        fault.enter_context(case.inject(patient))
        yield


@contextlib.contextmanager
def no_agent(patient: Ward) -> Iterator[None]:
    """It has ended; the advice starts it."""
    patient.hypervisor.processes["agent"].stop()
    yield


@contextlib.contextmanager
def changed_file(patient: Ward) -> Iterator[None]:
    """The file says something else than when the agent has read it."""
    hypervisor = patient.hypervisor
    before = hypervisor.config.read_text()
    hypervisor.config.write_text(before.replace("workers = 1", "workers = 2"))
    try:
        yield
    finally:
        hypervisor.config.write_text(before)
        hypervisor.processes["agent"].stop()
        hypervisor.start_agent()


CASES = [
    *(*doctor_faults_deployment.CASES, *doctor_faults_host.CASES, *doctor_faults_port.CASES),
    Case("agent-not-running", no_agent),
    Case("file-changed", changed_file, status=1),
]

PAGE = Path(__file__).parent.parent / "docs" / "troubleshooting.md"


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name not in ELSEWHERE],
    ids=lambda case: case.name,
)
def test_advice_that_is_followed_to_the_letter_cures(patient: Ward, case: Case) -> None:
    guest = patient.guest
    patient.wait_until_served()
    with made(patient, case):
        word = case.word.format(port=guest.port_id, instance=guest.instance_id, tap=guest.tap)
        assert cure(patient, word)


def test_every_fault_is_cured_here_or_has_another_owner() -> None:
    known = {fault.name for fault in FAULTS}
    assert {case.name for case in CASES} | ELSEWHERE.keys() <= known


def test_the_page_has_what_is_cured_here_and_who_cures_the_rest() -> None:
    rows = re.findall(r"^\| \[`([a-z0-9-]+)`\]\(#[a-z0-9-]+\) \| (.*) \|$", PAGE.read_text(), re.M)
    cured = {case.name for case in CASES} - ELSEWHERE.keys() | WITH_OVN
    assert [name for name, _ in rows] == [fault.name for fault in FAULTS]
    assert {name for name, by in rows if by == "yes"} == cured
    assert {name: by for name, by in rows if name in ELSEWHERE} == {
        name: f"no: {who}" for name, who in ELSEWHERE.items()
    }
