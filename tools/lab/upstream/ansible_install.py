"""ansible-core and ansible-lint in a virtual environment in the cache directory, installed once.

Run as a command, it installs; no state is kept in memory.
"""

import sys
from pathlib import Path

from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, main

REQUIREMENTS = ("ansible-core==2.19.14", "ansible-lint==26.10.1")


def ansible_programs() -> Path:
    """The directory of the programs; installs them first if need be.

    Raises:
        LabError: pip could not install them; names the log.
    """
    return build_once(installation_directory("ansible", REQUIREMENTS), _build) / "venv/bin"


def _build(directory: Path) -> None:
    installer = Installer("ansible-core and ansible-lint", directory, "a minute")
    installer.make_venv(directory / "venv", *REQUIREMENTS)
    installer.done()


if __name__ == "__main__":
    sys.exit(main(ansible_programs))
