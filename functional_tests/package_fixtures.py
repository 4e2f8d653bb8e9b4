"""The Debian package, built once for all tests of a run, as a pytest plugin module."""

import os
from pathlib import Path

import pytest

from lab.rig.process import run
from lab.upstream.cache import build_once

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built package; its bill of materials is beside it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    (built,) = build_once(shared / "package", build_package).glob("*.deb")
    return built


def build_package(into: Path) -> None:
    """Build it into a directory."""
    run(ROOT / "tools" / "build-deb", into, timeout=900)


__all__ = ["package"]
