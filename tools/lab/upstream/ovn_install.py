"""The real OVN, and the Open vSwitch of the same Debian suite, unpacked once into the cache.

Nothing is installed on this machine. An apt state of its own fetches the packages from the mirror
that the machine uses, `dpkg -x` unpacks them, and a wrapper for each program starts it through the
unpacked dynamic loader, with the unpacked libraries only. Run as a command, it fetches all suites;
no state is kept in memory.
"""

import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.rig.openvswitch import Programs
from lab.upstream.apt import apt_get
from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, main

SUITES = ("bookworm", "trixie", "sid")
"""Suites of Debian: OVN 23.03 and Open vSwitch 3.1; 25.03 and 3.5; the newest."""

PACKAGES = ("ovn-central", "ovn-host", "openvswitch-switch")

_UNPACKED = ("lib", "openvswitch-", "ovn-", "zlib1g")
"""The first letters of the packages that are unpacked: programs and shared libraries."""

_NOT_UNPACKED = ("libperl", "libpython")

_PROGRAMS = ("usr/bin/ov*", "usr/sbin/ov*", "usr/lib/openvswitch-switch/ovs-vswitchd")


@dataclass(frozen=True)
class Installation:
    """An unpacked OVN: wrappers of its programs, and the schemas of its databases."""

    directory: Path

    def program(self, name: str) -> Path:
        """The wrapper that starts a program."""
        return self.directory / "bin" / name

    def schema(self, name: str) -> Path:
        """The schema of a database of OVN: "nb" or "sb"."""
        return self.directory / f"root/usr/share/ovn/ovn-{name}.ovsschema"

    @property
    def openvswitch(self) -> Programs:
        """The Open vSwitch beside it."""
        share = self.directory / "root/usr/share/openvswitch"
        return Programs(self.directory / "bin", share / "vswitch.ovsschema")


def install_ovn(suite: str) -> Installation:
    """Return the unpacked OVN of a suite, fetching it when there is none, with a line on stderr.

    Raises:
        LabError: apt-get or dpkg failed; the message names the log.
    """
    directory = installation_directory(f"ovn-{suite}", [suite, *PACKAGES])
    return Installation(build_once(directory, partial(_build, suite)))


def _build(suite: str, directory: Path) -> None:
    installer = Installer(f"OVN and Open vSwitch of Debian {suite}", directory, "ten seconds")
    apt = directory / "apt"
    installer.run(*apt_get(apt, suite), "update")
    installer.run(*apt_get(apt, suite), "--download-only", "--yes", "install", *PACKAGES)
    root = directory / "root"
    for package in sorted(apt.glob("archives/*.deb")):
        if package.name.startswith(_UNPACKED) and not package.name.startswith(_NOT_UNPACKED):
            installer.run("dpkg", "-x", package, root)
    shutil.rmtree(apt)
    (directory / "bin").mkdir()
    loader = next(loader for part in _libraries(root) for loader in part.glob("ld-linux*"))
    libraries = ":".join(str(part) for part in _libraries(root))
    for pattern in _PROGRAMS:
        for program in filter(_is_executable, root.glob(pattern)):
            wrapper = directory / "bin" / program.name
            wrapper.write_text(
                f'#!/bin/sh\nexec "{loader}" --library-path "{libraries}" "{program}" "$@"\n'
            )
            wrapper.chmod(0o755)
    installer.done()


def _is_executable(file: Path) -> bool:
    """Whether a file is in the format that the loader starts; scripts are not."""
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def _libraries(root: Path) -> list[Path]:
    """Where shared libraries are; before Debian 13 some are outside /usr."""
    return [part for top in ("usr/lib", "lib") for part in sorted(root.glob(f"{top}/*-linux-gnu*"))]


if __name__ == "__main__":
    sys.exit(max(main(lambda: install_ovn(suite).directory) for suite in SUITES))  # noqa: B023
