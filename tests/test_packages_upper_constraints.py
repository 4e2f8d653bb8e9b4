"""OpenStack's upper constraints that the agent's environment contradicts: the data are true."""

import tomllib
from datetime import date

import pytest
from packaging.requirements import Requirement

from packages.upper_constraints import DATA, ROOT, agent_requirements, conflicts, constraints

RELEASES = tomllib.loads(DATA.read_text())
SUPPORT = (ROOT / "docs" / "support.md").read_text()

TEXT = """\
# constraints
One.Name===1.0
two===2.0;python_version=='3.8'
two===2.5;python_version>='3.9'
three===3.0
"""


def test_a_constraint_that_the_bounds_do_not_allow_is_a_conflict() -> None:
    pinned = dict(constraints(TEXT))
    assert pinned == {"one-name": "1.0", "two": "2.5", "three": "3.0"}
    wanted = map(Requirement, ("one_name>=1.1", "two>=2.1,<3", "four>=4", "three<3"))
    assert conflicts(wanted, pinned) == {"one-name": "1.0", "three": "3.0"}


@pytest.mark.parametrize("release", RELEASES)
def test_each_conflict_is_still_one(release: str) -> None:
    """With bounds that a change in pyproject.toml has moved, the data are to be made again."""
    recorded = RELEASES[release]
    assert conflicts(agent_requirements(), recorded["conflicts"]) == recorded["conflicts"]
    assert isinstance(recorded["of"], date)
    assert recorded["resolves"] == (not recorded["conflicts"])
    assert isinstance(recorded["rest_resolves"], bool)


def test_there_are_three_releases_and_the_page_has_them() -> None:
    assert len(RELEASES) == 3
    for release, recorded in RELEASES.items():
        libraries = ", ".join(
            f"{name} {version}" for name, version in recorded["conflicts"].items()
        )
        assert f"| {release} | {recorded['of']} | {libraries} |" in SUPPORT
