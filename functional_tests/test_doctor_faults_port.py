"""Faults of single ports, and what `ovs-metadata doctor` says of each."""

import doctor_faults_port
import pytest
from doctor_support import Case, Ward, findings_of, patient

__all__ = ["patient"]

CASES = doctor_faults_port.CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_is_named(patient: Ward, case: Case) -> None:
    assert findings_of(patient, case) == ({case.name, *case.also}, case.status)


def test_it_is_well_after_all_of_them(patient: Ward) -> None:
    patient.wait_until_well()
