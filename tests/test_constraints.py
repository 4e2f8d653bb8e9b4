"""constraints.txt and constraints-dev.txt: every library that is installed, by release and hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = {"constraints.txt": ["agent"], "constraints-dev.txt": ["agent", "dev"]}

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


@pytest.mark.parametrize("name", FILES)
def test_each_requirement_is_there_in_a_release_it_allows(name: str) -> None:
    """If one is not: tools/update-constraints."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], "setuptools>=77"]
    for extra in FILES[name]:
        wanted += project["optional-dependencies"][extra]
    found = pins(name) | {project["name"]: "0"}  # [dev] includes [agent] by the project's name
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(found[canonicalize_name(requirement.name)])


def test_what_is_tested_is_what_is_packaged() -> None:
    packaged, tested = (pins(name) for name in FILES)
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
