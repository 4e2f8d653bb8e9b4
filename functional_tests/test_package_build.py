"""How the Debian package is built: the same file each time, with a list of its libraries."""

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from package_fixtures import ROOT, package

from lab.rig.process import run
from packages.inventory import PROJECT

__all__ = ["package"]

DOCUMENTS = "/usr/share/doc/ovs-metadata-agent"
pytestmark = pytest.mark.timeout(1800)  # it builds the package twice


def held(package: Path, path: str) -> str:
    """A file in the package."""
    command = 'dpkg-deb --fsys-tarfile "$0" | tar --extract --to-stdout ".$1"'
    return run("sh", "-c", command, package, path)


def test_two_builds_of_one_commit_are_the_same_file(package: Path, tmp_path: Path) -> None:
    """In another directory, and with another umask."""
    elsewhere = tmp_path / "another-directory-to-build-in"
    elsewhere.mkdir()
    command = f'umask 077 && TMPDIR={elsewhere} {ROOT}/tools/build-deb "$0"'
    again = Path(run("sh", "-c", command, tmp_path, timeout=900).strip())
    assert again.name == package.name
    for suffix in (".deb", ".cdx.json"):
        one, two = (
            hashlib.sha256(each.with_suffix(suffix).read_bytes()) for each in (package, again)
        )
        assert one.hexdigest() == two.hexdigest(), suffix
    assert list(elsewhere.iterdir()) == []


def test_lintian_finds_nothing(package: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_it_lists_its_libraries_with_their_licenses(package: Path) -> None:
    lines = held(package, f"{DOCUMENTS}/python-packages.txt").splitlines()
    found = [re.fullmatch(r"([a-z0-9-]+)==\S+  # (\S.*)", line) for line in lines]
    listed = {each[1]: each[2] for each in found if each}
    assert len(listed) == len(lines)
    assert listed[PROJECT] == "Apache-2.0"
    pinned = re.findall(r"^([a-z0-9-]+)[=\[]", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert set(listed) - {PROJECT} <= set(pinned)
    assert {"tornado", "kazoo", "os-ken"} <= set(listed)


def test_its_bill_of_materials_is_in_it_and_beside_it(package: Path) -> None:
    text = package.with_suffix(".cdx.json").read_text()
    assert held(package, f"{DOCUMENTS}/sbom.cdx.json") == text
    document = json.loads(text)
    listed = held(package, f"{DOCUMENTS}/python-packages.txt").splitlines()
    assert [f"{each['name']}=={each['version']}" for each in document["components"]] == [
        line.split()[0] for line in listed if not line.startswith(f"{PROJECT}==")
    ]
    assert document["metadata"]["timestamp"] > "2026"
