"""Wheel and sdist: what is in them, and that they install, alone and beside Neutron."""

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import ovs_metadata
from lab.rig.process import run
from lab.upstream.neutron_install import (
    NEWEST,
    OLDEST,
    Release,
    install_neutron,
    missing_python,
)

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ovs_metadata"
COMMANDS = {
    *("mn-conf", "ovs-metadata", "ovs-metadata-agent", "ovs-metadata-flows"),
    "ovs-metadata-proxy",
}

pytestmark = pytest.mark.timeout(900)  # pip fetches all that is needed, twice


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and sdist; the wheel is built from the sdist, so that what is missing there is seen."""
    copy, into = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    # From a copy: setuptools writes into the tree it builds.
    files = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, files.split("\0")):
        source, target = ROOT / name, copy / name
        if source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink())
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    run(sys.executable, "-m", "build", "--outdir", into, copy, timeout=300)
    (wheel,), (sdist,) = into.glob("*.whl"), into.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh virtual environment with the wheel in it."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", environment, timeout=120)
    pip = (environment / "bin" / "python", "-m", "pip")
    run(*pip, "install", "--quiet", f"{built[0]}[agent]", timeout=600)
    assert "No broken requirements found." in run(*pip, "check")
    return environment / "bin"


def modules() -> set[str]:
    """Every file of the package in the tree, by its path below it."""
    found = set()
    for package in SOURCE.iterdir():
        inside = package.resolve().rglob("*") if package.is_dir() else [package]
        for path in inside:
            if path.is_file() and "__pycache__" not in path.parts:
                base = package.resolve() if package.is_dir() else package.parent
                prefix = Path(package.name) if package.is_dir() else Path()
                found.add(str("ovs_metadata" / prefix / path.relative_to(base)))
    return found


def test_the_wheel_holds_the_package_whole_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        text = wheel.read(entry_points).decode()
        assert not [each for each in wheel.infolist() if each.external_attr >> 28 == 0xA]  # links
    assert names == modules()
    assert "ovs_metadata/py.typed" in names
    assert {line.split(" = ")[0] for line in text.splitlines()} >= COMMANDS | {"ovs_metadata"}


def test_the_sdist_holds_files_where_the_tree_has_links(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        members = sdist.getmembers()
    assert not [each.name for each in members if each.issym() or each.islnk()]
    names = {each.name.partition("/")[2] for each in members if each.isfile()}
    assert {f"src/{name}" for name in modules()} <= names
    assert {"packaging/agent.conf", "etc/agent.conf.sample", "docs/install.md"} <= names
    monitoring = (ROOT / "packaging" / "monitoring").iterdir()
    assert {str(path.relative_to(ROOT)) for path in monitoring} <= names
    assert "tools/metadata/remove_dhcp_ports.sh" in names
    assert not [name for name in names if name.startswith(("tests/", "functional_tests/"))]


def test_a_fresh_environment_has_commands_that_work(installed: Path) -> None:
    for command in COMMANDS - {"ovs-metadata-proxy"}:
        assert ovs_metadata.__version__ in run(installed / command, "--version")
    assert "ovs-metadata-proxy" in run(installed / "ovs-metadata-proxy", "--help")
    # Not from the tree: -P leaves the working directory out.
    where = run(
        installed / "python", "-P", "-c", "import ovs_metadata; print(ovs_metadata.__file__)"
    )
    assert Path(where.strip()).is_relative_to(installed.parent)
    for module in ("agent.main", "flows.launcher", "proxy.main"):
        run(installed / "python", "-P", "-c", f"import ovs_metadata.{module}")


def test_manual_pages_and_completions_are_made_with_what_the_sdist_holds(
    built: tuple[Path, Path], installed: Path, tmp_path: Path
) -> None:
    with tarfile.open(built[1]) as sdist:
        sdist.extractall(tmp_path / "sdist", filter="data")
    (tree,) = (tmp_path / "sdist").iterdir()
    python = f"PYTHON={installed / 'python'}"
    run("env", python, tree / "tools" / "generate-man-pages", tmp_path / "man")
    assert {path.stem for path in (tmp_path / "man").iterdir()} == COMMANDS
    run(tree / "tools" / "generate-completions", installed, tmp_path / "completions")
    assert {path.name for path in (tmp_path / "completions" / "bash").iterdir()} == COMMANDS


@pytest.mark.parametrize("release", [NEWEST, OLDEST], ids=["newest", "oldest"])
def test_it_installs_into_neutrons_environment_and_changes_nothing_there(
    built: tuple[Path, Path], tmp_path: Path, release: Release
) -> None:
    """Publishing needs the service plugin in Neutron's own environment."""
    if missing_python(release):
        pytest.skip(f"no Python {release.python}, in PATH or pyenv")
    python = install_neutron(release).program("python")
    before = {
        each["name"].lower().replace("_", "-"): each["version"]
        for each in json.loads(run(python, "-m", "pip", "list", "--format=json"))
    }
    report = tmp_path / "report.json"
    run(
        *(python, "-m", "pip", "install", "--dry-run", "--quiet", "--report", report, built[0]),
        timeout=600,
    )
    wanted = [each["metadata"]["name"] for each in json.loads(report.read_text())["install"]]
    added = {name.lower().replace("_", "-") for name in wanted}
    assert "kazoo" in before  # the one library that Neutron lacks
    assert added <= {"ovs-metadata-agent"}


def test_in_an_environment_with_the_plugin_alone_a_command_names_what_it_lacks(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", tmp_path, timeout=120)
    run(tmp_path / "bin" / "python", "-m", "pip", "install", "--quiet", built[0], timeout=300)
    for command in sorted(COMMANDS - {"ovs-metadata-flows"}):  # which has help without any
        result = subprocess.run(
            [tmp_path / "bin" / command, "--help"], check=False, capture_output=True, text=True
        )
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert "is not installed" in result.stderr
        assert "[agent]" in result.stderr
