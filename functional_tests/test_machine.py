"""A machine of the lab boots, whichever version of cgroups this one has."""

from pathlib import Path

import pytest

from lab.rig.cgroups import MOUNTS, Cgroups, hierarchies
from lab.rig.machine import Machine

HERE = hierarchies(MOUNTS.read_text())


@pytest.mark.parametrize("cgroups", HERE, ids=lambda each: each.mount[1])
def test_services_run_in_cgroups_of_their_own(tmp_path: Path, cgroups: Cgroups) -> None:
    with Machine(tmp_path / "machine", cgroups) as machine:
        machine.run("systemd-run", "--quiet", "--unit=one", "sleep", "infinity")
        pid = machine.show("one", "MainPID")
        assert "/system.slice/one.service" in machine.run("cat", f"/proc/{pid}/cgroup")
        machine.run("systemctl", "stop", "one")
        assert machine.show("one", "ActiveState") == "inactive"
        assert machine.cgroup.is_dir()
        assert machine.cgroup.is_relative_to(cgroups.path)
    assert not machine.cgroup.exists()
    assert not (tmp_path / "machine").exists()
