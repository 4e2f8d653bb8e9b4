"""Which cgroups a machine of the lab uses, by what is mounted."""

from pathlib import Path

import pytest

from lab.rig import cgroups
from lab.rig.cgroups import hierarchies, hierarchy
from lab.rig.process import LabError

DEBIAN_12 = """\
sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0
cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot 0 0
"""
LEGACY = """\
tmpfs /sys/fs/cgroup tmpfs ro,nosuid,nodev,noexec,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0
"""
HYBRID = f"{LEGACY}cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid,relatime,nsdelegate 0 0\n"
CONTROLLERS_ALONE = "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"


def test_with_version_2_alone_systemd_gets_it_where_it_looks_for_it() -> None:
    (found,) = hierarchies(DEBIAN_12)
    assert found.path == Path("/sys/fs/cgroup")
    assert found.mount == ("-t", "cgroup2", "cgroup2")
    assert found.below == "."


def test_with_version_1_it_gets_its_own_hierarchy() -> None:
    (found,) = hierarchies(LEGACY)
    assert found.path == Path("/sys/fs/cgroup/systemd")
    assert found.mount == ("-t", "cgroup", "-o", "none,name=systemd", "cgroup")
    assert found.below == "systemd"


def test_where_there_are_both_its_own_comes_first() -> None:
    own, unified = hierarchies(HYBRID)
    assert [own] == hierarchies(LEGACY)
    assert unified.path == Path("/sys/fs/cgroup/unified")
    assert unified.below == "."


def test_controllers_alone_are_no_use_and_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(cgroups, "MOUNTS", mounts)
    mounts.write_text(CONTROLLERS_ALONE)
    with pytest.raises(LabError, match="mount -t cgroup2"):
        hierarchy()
    mounts.write_text(CONTROLLERS_ALONE + DEBIAN_12)
    assert hierarchy().path == Path("/sys/fs/cgroup")
