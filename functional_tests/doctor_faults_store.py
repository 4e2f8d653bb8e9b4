"""Faults that the agent would mend if it knew: the doctor reads a copy of the store that says more.

Announcements are not copied, for they live with the agent.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from doctor_faults_deployment import instead_of_nova
from doctor_support import Nova, Ward, nothing, without_admin_socket

from ovs_metadata.store import layout, open_store
from ovs_metadata.store.configuration import DEFAULT_TEMPLATE
from ovs_metadata.store.reconciliation import ReconciliationReport
from ovs_metadata.store.record import PortRecord

OTHER_UUID = "5b1c1c52-7a3e-4a62-9d8c-1f0d2b3c4d5e"


@dataclass(frozen=True)
class StoreCase:
    """What only the copy says; `answers`: whether the doctor reaches the agent itself.

    vm_uuid: of the guest's interface; empty for none.
    """

    name: str
    record: dict[str, object] = field(default_factory=dict)
    deployment: dict[str, object] = field(default_factory=dict)
    vm_uuid: str | None = None
    reconciliation: ReconciliationReport | None = None
    answers: bool = True
    status: int = 2

    @property
    def names(self) -> set[str]:
        """What the doctor finds."""
        # The doctor reads another agent.conf than the agent, and compares them if it answers.
        return {self.name, "file-changed" if self.answers else "admin-unreachable"}


CASES = [
    StoreCase("agent-behind", deployment={"rate_limit_burst": 77}, status=1),
    StoreCase(
        "reconciliation-late",
        reconciliation=ReconciliationReport("ctl-1", 1000.0, 1.0, 300.0),
        status=1,
    ),
    StoreCase(
        "removals-withheld",
        reconciliation=ReconciliationReport("ctl-1", 9.0e10, 1.0, 300.0, {"withheld": 9}),
        status=1,
    ),
    StoreCase("agent-sees-otherwise", record={"device_id": OTHER_UUID}, vm_uuid=""),
    StoreCase("wrong-instance", record={"device_id": OTHER_UUID}, vm_uuid="", answers=False),
    # Record and interface contradict each other in the agent's eyes.
    StoreCase(
        "not-identified", record={"device_id": OTHER_UUID}, vm_uuid=OTHER_UUID, answers=False
    ),
]


@contextlib.contextmanager
def only_in_a_copy(patient: Ward, root: Path, case: StoreCase) -> Iterator[Path]:
    """The configuration of a host that reads the copy. Nova knows every instance."""
    apart = nothing if case.answers else without_admin_socket
    with instead_of_nova(Nova)(patient), _copy(patient, root, case) as config, apart(patient):
        yield config


@contextlib.contextmanager
def _copy(patient: Ward, root: Path, case: StoreCase) -> Iterator[Path]:
    hypervisor, guest = patient.hypervisor, patient.guest
    original, copy = hypervisor.root / "store", root / "store"
    agents = layout.AGENTS.lstrip("/")
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns(Path(agents).name))
    (copy / agents).symlink_to(original / agents)
    document = copy / layout.config_template_path(DEFAULT_TEMPLATE).lstrip("/")
    values = json.loads(document.read_text())
    values |= {f"agent.openstack.metadata.{name}": value for name, value in case.deployment.items()}
    document.write_text(json.dumps(values))
    with contextlib.closing(open_store(f"directory:{copy}")) as store:
        record = json.dumps(guest.record(**case.record)).encode()
        if case.reconciliation:
            store.write_document(layout.RECONCILIATION, case.reconciliation.to_json(), None)
        store.put(PortRecord.from_json(guest.port_id, record), force=True)
    config = root / "agent.conf"
    text = hypervisor.config.read_text().replace(hypervisor.store_url, f"directory:{copy}")
    config.write_text(text)
    column = ("interface", guest.tap, "external_ids")
    if case.vm_uuid:
        hypervisor.ovs.vsctl("set", column[0], guest.tap, f'external_ids:vm-uuid="{case.vm_uuid}"')
    elif case.vm_uuid is not None:
        hypervisor.ovs.vsctl("remove", *column, "vm-uuid")
    try:
        yield config
    finally:
        hypervisor.ovs.vsctl(
            "set", column[0], guest.tap, f'external_ids:vm-uuid="{guest.instance_id}"'
        )
