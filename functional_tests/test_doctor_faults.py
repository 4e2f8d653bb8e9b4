"""Faults of the host's own file and of the store, and what `ovs-metadata doctor` says of each.

All on one hypervisor, which is repaired after each of them. For every fault the test compares the
set of findings, so that the doctor reports only it and what follows from it. Faults of the host and
of ports are made in `test_doctor_faults_host` and `test_doctor_faults_port`, which run beside this.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import doctor_faults_deployment
import doctor_faults_host
import doctor_faults_port
import doctor_faults_store
import pytest
from doctor_faults_store import StoreCase, only_in_a_copy
from doctor_support import Ward, patient

from ovs_metadata.cli.doctor.hops import FAULTS

__all__ = ["patient"]

CASES = [*doctor_faults_deployment.CASES, *doctor_faults_host.CASES, *doctor_faults_port.CASES]


# Faults of the host's own file, which need no running agent to be restarted.


@dataclass(frozen=True)
class Misconfigured:
    """The file says something else than the truth; lines replaced by regular expression."""

    name: str
    pattern: str
    replacement: str
    also: frozenset[str] = frozenset()
    status: int = 2


CHANGED = frozenset({"file-changed"})

FILE_CASES = [
    Misconfigured("config-unusable", r"bridge =", "brigde ="),
    Misconfigured("proxy-user-unusable", r"workers = 1", "workers = 1\nuser = root", CHANGED),
    Misconfigured("ovsdb-unreachable", r"db\.sock", "no.sock", CHANGED),
    Misconfigured("bridge-missing", r"br-int", "br-none", CHANGED),
    Misconfigured("vswitchd-silent", r"rundir = .*", "rundir = /nowhere", CHANGED),
    Misconfigured("file-changed", r"workers = 1", "workers = 2", status=1),
    Misconfigured("agent-not-announced", r"host = .*", "host = another-host", CHANGED, 1),
    Misconfigured("store-unreachable", r"url = .*", "url = zookeeper://127.0.0.1:9", CHANGED, 1),
    Misconfigured("store-unusable", r"url = .*", "url = directory:{store}", CHANGED),
]

ELSEWHERE = {
    *("agent-not-running", "guest-never-asked", "not-confirmed", "ofport-moving"),
    *("port-disabled", "secret-world-readable", "nova-fails-for-workers", "workers-missing"),
    *("meter-taken", "no-meters", "refused-by-option", "tag-without-effect"),
    *("process-ends-again", "without-ipv6"),
    *("source-not-in-record", "certificate-expires"),
    *("southbound-unknown", "southbound-unreachable", "chassis-unknown", "bound-elsewhere"),
}
"""Made in test_southbound.py, test_ovn_records.py, test_doctor.py, test_doctor_ports.py,
tests/test_doctor_checks.py and _run.py."""


@pytest.mark.parametrize(
    "case",
    FILE_CASES,
    ids=lambda case: case.name,
)
def test_a_fault_of_the_file(patient: Ward, tmp_path: Path, case: Misconfigured) -> None:
    store = tmp_path / "store" / "ovs_metadata" / "v2"
    store.mkdir(parents=True)
    (store / "version").write_text("99")
    config = tmp_path / "agent.conf"
    replacement = case.replacement.replace("{store}", str(tmp_path / "store"))
    text = patient.hypervisor.config.read_text()
    config.write_text(re.sub(case.pattern, replacement, text))
    found = patient.doctor(config=config)
    assert found.names == {case.name, *case.also}
    assert found.status == case.status


@pytest.mark.parametrize("case", doctor_faults_store.CASES, ids=lambda case: case.name)
def test_a_fault_that_a_copy_of_the_store_shows(
    patient: Ward, tmp_path: Path, case: StoreCase
) -> None:
    patient.wait_until_served()
    with only_in_a_copy(patient, tmp_path, case) as config:
        found = patient.doctor(patient.guest.port_id, config=config)
        assert found.names == case.names
        assert found.status == case.status


def test_it_is_well_after_all_of_them(patient: Ward) -> None:
    patient.wait_until_well()


def test_every_fault_is_injected_but_those_that_other_files_have() -> None:
    injected = {case.name for case in FILE_CASES} | {case.name for case in CASES}
    injected |= {case.name for case in doctor_faults_store.CASES}
    assert {fault.name for fault in FAULTS} - injected == ELSEWHERE
