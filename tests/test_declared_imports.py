"""Each library that code imports is declared, where it is installed from: pyproject.toml."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_constraints import PROJECT, ROOT, group

PRODUCT = ("agent", "cli", "flows", "host", "proxy", "publisher", "src", "store")
BASE = ("publisher", "store")
# Neutron's environment, in which alone the modules that import these run.
NEUTRONS = {"neutron", "neutron_lib", "oslo_db", "sqlalchemy"}
# What commands ask Neutron with, by publisher/neutron_api.py.
NEUTRONS_CLIENT = {"keystoneauth1", "openstack"}
# Environments of tests have these, apart from ours.
UPSTREAM = {"cloudinit", "cosmic_ray", "neutron", "nova"}
AGENT = PROJECT["optional-dependencies"]["agent"]


@cache
def imported(*directories: str) -> set[str]:
    """The libraries that files below these directories import, by the names in imports."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"]
    listed = subprocess.run(
        [*command, *(f"{each}/**.py" for each in directories)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    files = [ROOT / each for each in listed.split("\0") if each]
    assert files
    found = {name for path in files for name in _imports(ast.parse(path.read_text()))}
    # Tests import each other, and what is in tools/.
    beside = {*(ROOT / "tools").iterdir(), *ROOT.glob("*tests/*")}
    ours = {"ovs_metadata", "benchmarks"} | {path.stem for path in beside}
    return found - ours - sys.stdlib_module_names


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def declared(*requirements: str) -> set[str]:
    """The libraries that these requirements install, by the names in imports."""
    names = {canonicalize_name(Requirement(each).name) for each in requirements}
    return {module for module, names_of_it in _installed().items() if names & names_of_it}


@cache
def _installed() -> dict[str, set[str]]:
    found = packages_distributions()
    return {module: {canonicalize_name(each) for each in found[module]} for module in found}


@pytest.mark.parametrize(
    ("directories", "requirements", "elsewhere"),
    [
        (BASE, PROJECT["dependencies"], NEUTRONS | NEUTRONS_CLIENT),
        (PRODUCT, AGENT, NEUTRONS),
        (("tests", "functional_tests", "benchmarks", "tools"), [*AGENT, *group("test")], UPSTREAM),
    ],
    ids=["Neutron's plugin", "agent", "tests"],
)
def test_every_import_is_declared(
    directories: tuple[str, ...], requirements: list[str], elsewhere: set[str]
) -> None:
    assert imported(*directories) - declared(*requirements) - elsewhere == set()


def test_every_library_of_the_agent_is_imported() -> None:
    used = imported(*PRODUCT)
    assert {each for each in AGENT if not declared(each) & used} == set()
