"""Processes that get so much of a processor and no more, each by a cgroup of its own.

To see what two workers do that one does not, on a machine whose processors the load needs as well:
what the kernel withholds from each of them is the same. Needs root, and cgroups with the controller
`cpu` (version 1 or 2).
"""

import os
from contextlib import ExitStack
from pathlib import Path

from lab.rig.process import LabError, wait_for

_ROOT = Path("/sys/fs/cgroup")
_PERIOD = 10_000
"""Microseconds in which a process may use its share: short, so that none waits long."""


def limit(pid: int, percent: int, stack: ExitStack) -> None:
    """Give a process this share of one processor, until the stack is closed.

    Raises:
        LabError: no cgroup can be made.
    """
    quota = percent * _PERIOD // 100
    version_1 = _ROOT / "cpu"
    group = (
        version_1 if version_1.is_dir() else _ROOT
    ) / f"ovs-metadata-benchmark-{os.getpid()}-{pid}"
    try:
        group.mkdir()
        stack.callback(_remove, group)
        if version_1.is_dir():
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD}")
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        raise LabError(f"no share of a processor can be given: {error}") from error


def _remove(group: Path) -> None:
    """Remove a cgroup once its process, which got SIGTERM before, has exited."""

    def removed() -> bool:
        try:
            group.rmdir()
        except OSError:
            return False
        return True

    wait_for(removed, f"{group} to be empty")
