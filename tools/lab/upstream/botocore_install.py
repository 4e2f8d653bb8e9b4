"""botocore, the core of Amazon's SDK for Python, in a virtual environment in the cache directory.

Its client of the metadata service shows what SDKs expect of session tokens. Run as a command, it
fetches; no state is kept in memory.
"""

import sys
from pathlib import Path

from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, main

REQUIREMENT = "botocore==1.43.11"


def botocore_python() -> Path:
    """Return an interpreter that has botocore, fetching it when there is none.

    Raises:
        LabError: pip failed; the message names the log.
    """
    directory = build_once(installation_directory("botocore", [REQUIREMENT]), _build)
    return directory / "venv/bin/python"


def _build(directory: Path) -> None:
    installer = Installer("botocore", directory, "a quarter of a minute")
    installer.make_venv(directory / "venv", REQUIREMENT)
    installer.done()


if __name__ == "__main__":
    sys.exit(main(botocore_python))
