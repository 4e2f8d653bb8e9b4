"""A machine of the lab boots, whichever version of cgroups this one has."""

import os
from pathlib import Path

import pytest

from lab.rig.cgroups import MOUNTS, Cgroups, hierarchies
from lab.rig.machine import Machine

HERE = hierarchies(MOUNTS.read_text())


@pytest.mark.parametrize("cgroups", HERE, ids=lambda each: each.mount[1])
def test_services_run_in_cgroups_of_their_own(tmp_path: Path, cgroups: Cgroups) -> None:
    ours = cgroups.path / f"ovs-metadata-lab-{os.getpid()}"
    with Machine(tmp_path / "machine", cgroups) as machine:
        machine.run("systemd-run", "--quiet", "--unit=one", "sleep", "infinity")
        pid = machine.show("one", "MainPID")
        assert "/system.slice/one.service" in machine.run("cat", f"/proc/{pid}/cgroup")
        machine.run("systemctl", "stop", "one")
        assert machine.show("one", "ActiveState") == "inactive"
        assert ours.is_dir()
    assert not ours.exists()
    assert not (tmp_path / "machine").exists()
