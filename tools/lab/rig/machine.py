"""A machine of its own for tests that install things: this one's files, and a real systemd.

`with Machine(directory) as machine: machine.run("systemctl", "start", …)`. It sees all files of
this machine and changes none: what it writes goes into an overlay in `directory`. It has its own
processes, network and cgroup, and is up in a second. All of it is namespaces of one process: when
that ends, however it does, nothing is left but the overlay and an empty cgroup, which `__exit__`
removes.

Needs root, overlayfs, and a hierarchy of cgroups, of version 1 or 2 (`lab.rig.cgroups`).
"""

import contextlib
import itertools
import os
import pty
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from lab.rig.cgroups import Cgroups, hierarchy
from lab.rig.process import LabError, run, wait_for

_number = itertools.count()

SOURCE = Path(__file__).resolve().parents[3]
"""The top of the source tree, which the machine sees wherever it is."""

_BOOT = """
set -eu
root=$1 upper=$2 work=$3 console=$4 source=$5 cgroups=$6
shift 6
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$upper,workdir=$work" "$root"
mount -t proc proc "$root/proc"
# Settings of the kernel are not a machine's own, but for those of its network.
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount --rbind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
for each in run tmp dev sys/fs/cgroup; do mount -t tmpfs tmpfs "$root/$each"; done
case $source in
    # It has a /tmp of its own, which systemd empties.
    /tmp/*)
        mkdir -p "$root$source"
        mount --bind "$source" "$root$source"
        mount -o remount,bind,ro "$root$source"
        ;;
esac
for each in null zero full random urandom tty; do
    touch "$root/dev/$each"
    mount --bind "/dev/$each" "$root/dev/$each"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/net"
mknod "$root/dev/net/tun" c 10 200
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
touch "$root/dev/console"
mount --bind "$console" "$root/dev/console"
mkdir -p "$root/sys/fs/cgroup/$cgroups"
mount "$@" "$root/sys/fs/cgroup/$cgroups"
# What this machine would start is none of the new one's business.
rm -rf "$root/etc/systemd/system" "$root/etc/machine-id" "$root/usr/sbin/policy-rc.d"
# A package with manual pages would have man-db read those of this whole machine again.
rm -f "$root/var/lib/man-db/auto-update"
mkdir "$root/etc/systemd/system"
for each in modules-load remount-fs sysctl update-utmp; do
    ln -s /dev/null "$root/etc/systemd/system/systemd-$each.service"
done
touch "$root/etc/machine-id"
ip link set lo up
# In the place of the old root, and not just below it: who enters the mount namespace later arrives
# at its root.
cd "$root"
mount --move . /
exec chroot . sh -c 'mount --make-rshared / && exec env -i container=lab \\
    PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target \\
    --log-target=console --show-status=0'
"""


class Machine:
    """A running machine, from `__enter__` to `__exit__`."""

    def __init__(self, directory: Path, cgroups: Cgroups | None = None) -> None:
        """Make it.

        Args:
            directory: where it keeps what it writes, on a file system that overlayfs can use so.
            cgroups: the hierarchy of cgroups to use, if it is not to be the usual one.
        """
        self._directory = directory
        self.upper = directory / "upper"
        """What the machine has written, as overlayfs keeps it."""
        self._cgroups = cgroups or hierarchy()
        name = f"ovs-metadata-lab-{os.getpid()}-{next(_number)}"
        self.cgroup = self._cgroups.path / name
        """Its own, in this machine's hierarchy."""
        self._process: subprocess.Popen[bytes] | None = None
        self._console: list[bytes] = []
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Boot it; raises LabError if it does not come up."""
        directories = [self._directory / name for name in ("root", "upper", "work")]
        for each in directories:
            each.mkdir(parents=True)
        self.cgroup.mkdir()
        try:
            self._boot(directories)
            wait_for(self._is_up, "the machine's systemd", 30)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _boot(self, directories: Sequence[Path]) -> None:
        ours, theirs = pty.openpty()
        self._opened.callback(os.close, theirs)
        procs = str(self.cgroup / "cgroup.procs")
        self._process = subprocess.Popen(
            [
                # The shell enters the cgroup before its namespace makes it the root of all.
                *("sh", "-c", f'echo $$ >{procs}; exec "$@"', "sh"),
                *("unshare", "--kill-child", "--mount", "--net", "--pid", "--uts", "--ipc"),
                *("--cgroup", "--fork", "sh", "-c", _BOOT, "sh"),
                *(*map(str, directories), os.ttyname(theirs), str(SOURCE)),
                *(self._cgroups.below, *self._cgroups.mount),
            ],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        self._reader = threading.Thread(target=self._read, args=(ours,), name="console")
        self._reader.start()

    def _read(self, console: int) -> None:
        with contextlib.suppress(OSError), contextlib.closing(os.fdopen(console, "rb", 0)) as file:
            while data := file.read(65536):
                self._console.append(data)

    def _is_up(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"it ended: {self.console}")
        return self.run("systemctl", "is-active", "basic.target", check=False).strip() == "active"

    @property
    def console(self) -> str:
        """The output of its services and of systemd itself."""
        return b"".join(self._console).decode(errors="replace")

    @property
    def pid(self) -> int:
        """Its process 1, as numbered here."""
        if self._process is None:
            raise LabError("the machine has not been started")
        path = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        children = Path(path).read_text().split()
        if not children:
            raise LabError("the machine has no process yet")
        return int(children[0])

    def path(self, path: str) -> Path:
        """One of its files, as seen from here; what is in this machine's /tmp is not in its own."""
        return Path(f"/proc/{self.pid}/root") / path.removeprefix("/")

    def command(self, *command: str | Path) -> list[str]:
        """The command line that runs a command in it."""
        inside = ["nsenter", f"--target={self.pid}", "--all", "--root", "--wd"]
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        return [*inside, *environment, *map(str, command)]

    def run(self, *command: str | Path, timeout: float = 60, check: bool = True) -> str:
        """Run a command in it and return what it printed; raises LabError when it fails."""
        return run(*self.command(*command), timeout=timeout, check=check)

    def show(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", what, "--value", unit).strip()

    def __exit__(self, *_: object) -> None:
        """End it at once, and remove what it has written."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # and with it its child, process 1
            self._process.wait()
        self._opened.close()
        if self._process:
            self._reader.join()
        wait_for(self._remove_cgroups, "the machine's processes to end")
        shutil.rmtree(self._directory)

    def _remove_cgroups(self) -> bool:
        inner = sorted(self.cgroup.rglob("*/"), key=lambda path: len(path.parts), reverse=True)
        try:
            for each in [*(path for path in inner if path.is_dir()), self.cgroup]:
                each.rmdir()
        except OSError:
            return False
        return True
