"""Which of OpenStack's upper constraints the agent's environment contradicts.

    python -m packages.upper_constraints NAME FILE     # of a release, as a table of TOML

FILE is upper-constraints.txt of that release's branch of openstack/requirements. The table belongs
into `upper-constraints.toml`, with the date of that file, and its versions into docs/support.md.
`resolves` is uv's word: whether the agent's libraries can be installed under those constraints, and
under the rest of them once those in `conflicts` are left out. It needs uv in PATH and PyPI.
"""

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).with_name("upper-constraints.toml")
PYTHON = "3.11"
"""The agent's oldest."""


def agent_requirements() -> list[Requirement]:
    """What the extra `[agent]` requires, which the base's requirements are part of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(map(Requirement, project["optional-dependencies"]["agent"]))


def constraints(text: str) -> Iterator[tuple[str, str]]:
    """(Library, release) of the lines that are for PYTHON."""
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        requirement = Requirement(line)
        (pinned,) = requirement.specifier
        if requirement.marker is None or requirement.marker.evaluate({"python_version": PYTHON}):
            yield canonicalize_name(requirement.name), pinned.version


def conflicts(requirements: Iterable[Requirement], pinned: Mapping[str, str]) -> dict[str, str]:
    """Library → the constraint, of the requirements that do not allow it."""
    found: dict[str, str] = {}
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if name in pinned and not requirement.specifier.contains(pinned[name]):
            found[name] = pinned[name]
    return found


def resolves(pinned: Mapping[str, str]) -> bool:
    """Whether the agent's libraries can be installed under these constraints."""
    requirements = "".join(f"{each}\n" for each in agent_requirements())
    lines = "".join(f"{name}==={version}\n" for name, version in pinned.items())
    command = ["uv", "pip", "compile", "--quiet", "--python-version", PYTHON, "--no-header", "-"]
    path = ROOT / "build" / "upper-constraints.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(lines)
    done = subprocess.run(
        [*command, "--constraints", path],
        input=requirements,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    return done.returncode == 0


def main(name: str, path: Path) -> None:
    """Print the release's table."""
    pinned = dict(constraints(path.read_text()))
    found = conflicts(agent_requirements(), pinned)
    rest = {library: pinned[library] for library in pinned if library not in found}
    print(f'["{name}"]')
    print(f"resolves = {str(resolves(pinned)).lower()}")
    print(f"rest_resolves = {str(resolves(rest)).lower()}")
    print(f'\n["{name}".conflicts]')
    for library, version in sorted(found.items()):
        print(f'"{library}" = "{version}"')


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
