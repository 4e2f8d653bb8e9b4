"""The root file system of another Debian, made once in the cache, and commands run in it.

mmdebstrap makes it from the mirror that this machine uses. A command in it has its own processes,
mounts and cgroup file system, and this machine's network, name servers and authorities. All mounts
and processes end with the command, however it ends: they are namespaces of one process. What the
command writes to the root stays, but for /run and /tmp.

Needs root and mmdebstrap.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lab.rig.process import run
from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory

PACKAGES = ("ca-certificates", "git", "iproute2", "procps", "python3-venv")
"""What a root has beside what every Debian has: enough for `tools/test` to install the rest."""

_ENTER = """
set -eu
root=$1
shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
for each in run tmp; do mount -t tmpfs tmpfs "$root/$each"; done
for each in /etc/hosts /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$each" ] || cat "$each" >"$root$each"
done
# In the place of the old root: process 1 has the mount namespace that names are made in.
cd "$root"
mount --move . /
exec chroot . sh -c 'mount --make-rshared / && "$@"; exit $?' sh "$@"
"""

_KEPT = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def mirror() -> str:
    """Where this machine gets the packages of Debian from; raises LabError if apt does not know."""
    return run(
        *("apt-get", "indextargets", "--format", "$(REPO_URI)"),
        *("Created-By: Packages", "Label: Debian"),
    ).split()[0]


def install_root(suite: str, packages: Sequence[str] = PACKAGES) -> Path:
    """Return the root of a suite, making it when there is none, with a line on stderr.

    Raises:
        LabError: mmdebstrap failed; the message names the log.
    """
    directory = installation_directory(f"debian-{suite}", [suite, *packages])
    return build_once(directory, partial(_build, suite, packages)) / "root"


def _build(suite: str, packages: Sequence[str], directory: Path) -> None:
    installer = Installer(f"a root of Debian {suite}", directory, "two minutes")
    installer.run(
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        *(f"--include={','.join(packages)}", suite, directory / "root"),
        f"deb {mirror()} {suite} main",
    )
    installer.done()


def command_in(root: Path, *command: str | Path) -> list[str]:
    """The command line that runs a command in the root; its process 1 waits for it."""
    kept = [f"{name}={os.environ[name]}" for name in _KEPT if name in os.environ]
    environment = ["HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *kept]
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--cgroup"),
        *("sh", "-c", _ENTER, "sh", str(root)),
        *("env", "-i", *environment, *map(str, command)),
    ]
