"""The control groups of a `lab.rig.machine`: where they are made here, and how it mounts its own.

systemd needs a hierarchy to put its services into. Debian 12 has cgroup v2 alone, at
`/sys/fs/cgroup`; other systems have systemd's own hierarchy of v1, with no controller. Which of
them there are says `/proc/mounts` (proc(5)).
"""

from dataclasses import dataclass
from pathlib import Path

from lab.rig.process import LabError

MOUNTS = Path("/proc/mounts")


@dataclass(frozen=True)
class Cgroups:
    """A hierarchy of this machine that systemd can use.

    `path` is where it is mounted here, `mount` the arguments of mount(8) that mount it elsewhere
    and `below` the directory where systemd looks for it, relative to /sys/fs/cgroup.
    """

    path: Path
    mount: tuple[str, ...]
    below: str


def hierarchies(mounts: str) -> list[Cgroups]:
    """Those that a text like that of /proc/mounts lists, systemd's own first."""
    own, unified = [], []
    for line in mounts.splitlines():
        _source, path, kind, options = line.split()[:4]
        if kind == "cgroup" and "name=systemd" in options.split(","):
            mount = ("-t", "cgroup", "-o", "none,name=systemd", "cgroup")
            own.append(Cgroups(Path(path), mount, "systemd"))
        elif kind == "cgroup2":
            unified.append(Cgroups(Path(path), ("-t", "cgroup2", "cgroup2"), "."))
    return own + unified


def hierarchy() -> Cgroups:
    """The one to use here.

    Raises:
        LabError: there is none.
    """
    found = hierarchies(MOUNTS.read_text())
    if not found:
        raise LabError(
            f"{MOUNTS} lists no cgroup hierarchy that systemd can use: mount one, for example "
            "by `mount -t cgroup2 cgroup2 /sys/fs/cgroup`"
        )
    return found[0]
