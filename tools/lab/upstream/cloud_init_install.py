"""The real cloud-init as Debian ships it, unpacked once per machine into the cache directory.

It is unpacked and not installed: installed, it would take this machine for a cloud instance at the
next boot. Its dependencies come from PyPI into a virtual environment beside it. Run as a command,
it fetches; no state is kept in memory.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, main

PACKAGE = "cloud-init"

REQUIREMENTS = (
    *("configobj>=5", "jinja2>=3", "jsonpatch>=1", "jsonschema>=4", "oauthlib>=3", "pyyaml>=6"),
    # Debian 12's own: newer ones read the zone in the URL of a link-local address differently.
    *("requests==2.28.1", "urllib3==1.26.12"),
)
"""What the Debian package depends on, by the names PyPI has for it.

Without netifaces and pyserial: only data sources of other clouds need them.
"""


@dataclass(frozen=True)
class Installation:
    """An unpacked cloud-init: an interpreter with what it needs, and the path of its modules."""

    python: Path
    modules: Path


def install_cloud_init() -> Installation:
    """Return the unpacked cloud-init, fetching it when there is none, with a line on stderr.

    Raises:
        LabError: apt-get or pip failed; the message names the log.
    """
    directory = build_once(installation_directory(PACKAGE, [PACKAGE, *REQUIREMENTS]), _build)
    return Installation(
        directory / "venv/bin/python", directory / "unpacked/usr/lib/python3/dist-packages"
    )


def _build(directory: Path) -> None:
    installer = Installer("cloud-init and its dependencies", directory, "half a minute")
    installer.run("apt-get", "update", "-qq")
    # It downloads into the current directory, and nowhere else.
    installer.run("env", f"--chdir={directory}", "apt-get", "download", "-q", PACKAGE)
    for package in directory.glob("*.deb"):
        installer.run("dpkg", "-x", package, directory / "unpacked")
        package.unlink()
    installer.make_venv(directory / "venv", *REQUIREMENTS)
    installer.done()


if __name__ == "__main__":
    sys.exit(main(lambda: install_cloud_init().modules))
