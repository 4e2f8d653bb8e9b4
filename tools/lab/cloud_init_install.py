"""The real cloud-init as Debian ships it, unpacked once per machine into the cache directory.

It is unpacked and not installed: installed, it would take this machine for a cloud instance at the
next boot. Its dependencies come from PyPI into a virtual environment beside it. Run as a command,
it fetches; no state is kept in memory.
"""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.cache import build_once, cache_directory
from lab.process import LabError, run

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
    """Return the unpacked cloud-init, fetching it when there is none; says so on stderr.

    Raises:
        LabError: apt-get or pip failed; the message names the log or holds what was said.
    """
    key = "\n".join([PACKAGE, *REQUIREMENTS, sys.version])
    name = f"cloud-init-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    directory = build_once(cache_directory() / name, _build)
    return Installation(
        directory / "venv/bin/python", directory / "unpacked/usr/lib/python3/dist-packages"
    )


def _build(directory: Path) -> None:
    print("Fetching cloud-init and its dependencies (half a minute, once)", file=sys.stderr)
    run("apt-get", "update", "-qq", timeout=120)
    # It downloads into the current directory, and nowhere else.
    run("env", f"--chdir={directory}", "apt-get", "download", "-q", PACKAGE, timeout=120)
    for package in directory.glob("*.deb"):
        run("dpkg", "-x", package, directory / "unpacked")
        package.unlink()
    venv = directory / "venv"
    # Beside the directory: a failed build is removed, and its log must not be.
    log = directory.with_name(directory.name + ".log")
    commands: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", venv],
        [venv / "bin/pip", "install", "--disable-pip-version-check", *REQUIREMENTS],
    ]
    with log.open("wb") as output:
        for command in commands:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ours would lead its pip astray.
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                check=False,
            )
            if done.returncode:
                raise LabError(f"cannot install what cloud-init needs: see {log}")


def main() -> int:
    """Install; 1 and one line when that fails."""
    try:
        print(install_cloud_init().modules)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
