"""The Debian package for tests that install it."""

import os
from pathlib import Path

from lab.rig.process import run

ROOT = Path(__file__).resolve().parents[1]


def built_package(into: Path) -> Path:
    """The package, built into a directory, unless OVS_METADATA_PACKAGE names one that is built."""
    if ready := os.environ.get("OVS_METADATA_PACKAGE"):
        return Path(ready)
    return Path(run(ROOT / "tools" / "build-deb", into, timeout=900).strip())
