"""Tests of what runs in Neutron's server, on each Python that Neutron's releases run on.

    python -m lab.neutron_pythons [ARG...]     # those that this machine has; ARGs are pytest's
    python -m lab.neutron_pythons --find 3.12  # prints where that one is, or fails

Each Python gets the libraries of one release of Neutron, once, in the cache, and a virtual
environment below build/ that has them and the tree. The tests are those that import only
`publisher`, `store` and what these import. Two Pythons run at a time. It prints a line for each
Python, and exits with 1 if a test failed, and with 2 if this machine has none of the Pythons.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.rig.process import LabError
from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, tell

ROOT = Path(__file__).parents[2]

# These two test commands and the agent's configuration, too.
_NOT_NEUTRONS = {"test_publisher_bulk.py", "test_publisher_config.py"}
_PATTERNS = ("test_publisher_*.py", "test_store_*.py", "test_untrusted.py", "test_problem_log.py")
_TOOLS = ("pytest", "pytest-timeout", "hypothesis")


@dataclass(frozen=True)
class Release:
    """A release of OpenStack, and what its upper constraints have of our libraries."""

    name: str
    kazoo: str
    netaddr: str
    oslo_config: str
    eventlet: str
    dnspython: str

    def requirements(self) -> list[str]:
        """As pip wants them."""
        return [
            f"kazoo=={self.kazoo}",
            f"netaddr=={self.netaddr}",
            f"oslo.config=={self.oslo_config}",
            f"eventlet=={self.eventlet}",
            f"dnspython=={self.dnspython}",
        ]


# From upper-constraints.txt of each branch of openstack/requirements, as of August 2026. Each
# Python is one that the release supports, the oldest of both together.
RELEASES = {
    "3.9": Release("2023.1", "2.9.0", "0.8.0", "9.1.1", "0.33.1", "2.2.1"),
    "3.10": Release("2024.1", "2.10.0", "0.10.1", "9.4.0", "0.35.1", "2.5.0"),
    "3.11": Release("2025.1", "2.10.0", "1.3.0", "9.7.2", "0.39.0", "2.7.0"),
    "3.12": Release("2025.2", "2.10.0", "1.3.0", "10.0.0", "0.40.2", "2.7.0"),
    "3.13": Release("2026.1", "2.10.0", "1.3.0", "10.3.0", "0.40.4", "2.8.0"),
}
"""Python → the release whose libraries it gets."""


def neutron_tests(directory: Path) -> list[Path]:
    """The files of tests in a directory that belong to what runs in Neutron's server."""
    found = {path for pattern in _PATTERNS for path in directory.glob(pattern)}
    return sorted(path for path in found if path.name not in _NOT_NEUTRONS)


def interpreters(wanted: Iterable[str], environ: Mapping[str, str]) -> dict[str, Path]:
    """Version → interpreter, of the wanted versions that PATH or pyenv has."""
    pyenv = Path(environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for version in wanted:
        candidates = sorted(pyenv.glob(f"{version}.*/bin/python3"))
        if on_path := shutil.which(f"python{version}", path=environ.get("PATH")):
            candidates.append(Path(on_path))
        # A shim of pyenv is there without the Python that it names.
        python = next((each for each in candidates if _version(each) == version), None)
        if python is not None:
            found[version] = python
    return found


def _version(python: Path) -> str:
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    result = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, check=False, timeout=30
    )
    return result.stdout.strip()


def run_tests(version: str, python: Path, arguments: Sequence[str]) -> tuple[int, str]:
    """Run the tests on one Python: pytest's exit status and output."""
    release = RELEASES[version]
    libraries = _libraries(version, python, release)
    environment = ROOT / "build" / f"python{version}"
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([python, "-m", "venv", "--without-pip", environment], check=True, timeout=120)
    (packages,) = environment.glob("lib/*/site-packages")
    (theirs,) = (libraries / "venv").glob("lib/*/site-packages")
    (packages / "tree.pth").write_text(f"{ROOT / 'src'}\n{theirs}\n")
    result = subprocess.run(
        [
            *(environment / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *neutron_tests(ROOT / "tests"),
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
        # Byte code of several Pythons is written at a time; that of the libraries is kept.
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(libraries / "pycache")},
    )
    return result.returncode, result.stdout + result.stderr


def _libraries(version: str, python: Path, release: Release) -> Path:
    requirements = [*release.requirements(), *_TOOLS]
    directory = installation_directory(f"python-{version}", [str(python), *requirements])

    def build(directory: Path) -> None:
        what = f"libraries of OpenStack {release.name} for Python {version}"
        installer = Installer(what, directory, "ten seconds")
        installer.run(python, "-m", "venv", directory / "venv")
        installer.run(directory / "venv/bin/pip", "install", *requirements)
        installer.done()

    return build_once(directory, build)


def main(arguments: Sequence[str]) -> int:
    """Run them all; the exit status."""
    if arguments[:1] == ["--find"]:
        places = interpreters(arguments[1:2], os.environ)
        print(*places.values())
        return int(not places)
    found = interpreters(RELEASES, os.environ)
    for version in RELEASES.keys() - found.keys():
        tell(f"Python {version}: not on this machine, not tested")
    if not found:
        return 2

    def run(version: str) -> int:
        started = time.monotonic()
        try:
            status, output = run_tests(version, found[version], arguments)
        except LabError as error:
            tell(f"Python {version}: {error}")
            return 1
        if status:
            tell(output)
        summary = output.strip().splitlines()[-1].strip("= ")
        tell(
            f"Python {version}, libraries of OpenStack {RELEASES[version].name}: {summary}"
            if not status
            else f"Python {version}: failed after {time.monotonic() - started:.0f} s"
        )
        return status

    with ThreadPoolExecutor(max_workers=2) as pool:
        return int(any(list(pool.map(run, found))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
