"""The files of constraints: every library that is installed, by release and hash."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
# By file, the groups of dependencies that it has beside the extra [agent].
FILES = {"constraints.txt": [], "constraints-dev.txt": ["dev"], "constraints-lowest.txt": ["test"]}

# pip wants the extras that another library asks for, where it wants hashes.
_PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)(\[[a-z0-9,-]+\])?==(?P<version>\S+)( ; [^\\\n]+)?(?P<hashes>( \\\n.*)+)"
)
_HASH = re.compile(r" \\\n    --hash=sha256:[0-9a-f]{64}")


def pins(name: str) -> dict[str, str]:
    """Release of each library in a file, whose every line must be of one."""
    _comment, text = (ROOT / name).read_text().split("\n", 1)
    found = {}
    for each in re.split(r"(?<!\\)\n", text.removesuffix("\n")):
        pin = _PIN.fullmatch(each)
        assert pin is not None, each[:200]
        assert _HASH.sub("", pin["hashes"]) == ""
        found[pin["name"]] = pin["version"]
    return found


def group(name: str) -> Iterator[str]:
    """The requirements of a group of dependencies, with those of groups that it includes."""
    for each in PYPROJECT["dependency-groups"][name]:
        if isinstance(each, str):
            yield each
        else:
            yield from group(each["include-group"])


@pytest.mark.parametrize("name", FILES)
def test_each_requirement_is_there_in_a_release_it_allows(name: str) -> None:
    """If one is not: tools/update-constraints."""
    wanted = [
        *PROJECT["dependencies"],
        *PROJECT["optional-dependencies"]["agent"],
        "setuptools>=77",
    ]
    for each in FILES[name]:
        wanted += group(each)
    found = pins(name)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(found[canonicalize_name(requirement.name)])


def test_the_lowest_releases_are_those_of_the_bounds() -> None:
    """Or the first above that a library of another bound allows."""
    lowest, packaged = pins("constraints-lowest.txt"), pins("constraints.txt")
    for requirement in map(Requirement, PROJECT["optional-dependencies"]["agent"]):
        (bound,) = (each for each in requirement.specifier if each.operator == ">=")
        found = Version(lowest[canonicalize_name(requirement.name)])
        # The same minor release: ovs 3.1 begins with 3.1.2, say.
        assert found.release[0] == Version(bound.version).release[0]
        assert found <= Version(packaged[canonicalize_name(requirement.name)])


def test_what_is_tested_is_what_is_packaged() -> None:
    packaged, tested = (pins(name) for name in ("constraints.txt", "constraints-dev.txt"))
    assert packaged.items() <= tested.items()


def test_what_makes_mutants_agrees_with_what_tests_run_with() -> None:
    mutants, tested = pins("constraints-mutants.txt"), pins("constraints-dev.txt")
    assert "cosmic-ray" in mutants
    shared = mutants.keys() & tested.keys()
    assert {name: mutants[name] for name in shared} == {name: tested[name] for name in shared}


@pytest.mark.parametrize("name", [*FILES, "constraints-mutants.txt"])
def test_a_file_names_no_place_to_install_from(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|^--?(?!hash)", text, re.MULTILINE)
