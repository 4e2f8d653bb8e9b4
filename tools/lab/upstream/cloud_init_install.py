"""The real cloud-init as suites of Debian ship it, unpacked once per machine into the cache.

It is unpacked and not installed: installed, it would take this machine for a cloud instance at the
next boot. Its dependencies come from PyPI into a virtual environment beside it. Run as a command,
it fetches; no state is kept in memory.
"""

import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.upstream.apt import apt_get
from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, main

PACKAGE = "cloud-init"

BOOKWORM, NEWEST = "bookworm", "sid"
"""Suites of Debian: cloud-init 22.4; the newest."""

_REQUIREMENTS = (
    *("configobj>=5", "jinja2>=3", "jsonpatch>=1", "jsonschema>=4", "oauthlib>=3", "pyyaml>=6"),
)

REQUIREMENTS = {
    # Debian 12's own: newer ones read the zone in the URL of a link-local address differently.
    BOOKWORM: (*_REQUIREMENTS, "requests==2.28.1", "urllib3==1.26.12"),
    NEWEST: (*_REQUIREMENTS, "requests>=2.32", "urllib3>=2"),
}
"""What the Debian package depends on, by the names PyPI has for it, for each suite.

Without netifaces and pyserial: only data sources of other clouds need them.
"""


@dataclass(frozen=True)
class Installation:
    """An unpacked cloud-init: an interpreter with what it needs, and the path of its modules."""

    python: Path
    modules: Path


def install_cloud_init(suite: str = BOOKWORM) -> Installation:
    """Return a suite's unpacked cloud-init, fetching it when there is none, with a line on stderr.

    Raises:
        LabError: apt-get or pip failed; the message names the log.
    """
    made_from = [PACKAGE, suite, *REQUIREMENTS[suite]]
    directory = build_once(installation_directory(PACKAGE, made_from), partial(_build, suite))
    return Installation(
        directory / "venv/bin/python", directory / "unpacked/usr/lib/python3/dist-packages"
    )


def _build(suite: str, directory: Path) -> None:
    what = f"cloud-init of Debian {suite} and its dependencies"
    installer = Installer(what, directory, "half a minute")
    apt = directory / "apt"
    installer.run(*apt_get(apt, suite), "update")
    # It downloads into the current directory, and nowhere else.
    installer.run("env", f"--chdir={directory}", *apt_get(apt, suite), "download", PACKAGE)
    for package in directory.glob("*.deb"):
        installer.run("dpkg", "-x", package, directory / "unpacked")
        package.unlink()
    shutil.rmtree(apt)
    installer.make_venv(directory / "venv", *REQUIREMENTS[suite])
    installer.done()


if __name__ == "__main__":
    sys.exit(max(main(lambda: install_cloud_init(suite).modules) for suite in REQUIREMENTS))  # noqa: B023
