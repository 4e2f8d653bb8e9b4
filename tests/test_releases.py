"""One version, wherever it is written, and no package that is not published."""

import re
from pathlib import Path

import pytest

from ovs_metadata import __version__

ROOT = Path(__file__).parents[1]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")})
NAME = r"ovs[-_]metadata[-_]agent"
_COMMAND = re.compile(
    r"\b(?:(?:pip|pip3|pipx|uv|apt|apt-get|aptitude|dnf|yum)\b[^\n`]*\b(?:install|add|download)"
    rf"|(?:podman|docker)[ ]pull)\b[^\n`]*?(?P<what>\S*{NAME}\S*)"
)


def unpublished(text: str) -> list[str]:
    """What commands in a text install or fetch by name alone: the project is in no index."""
    found = (match["what"].strip("'\"") for match in _COMMAND.finditer(text))
    return [
        each
        for each in found
        if not each.startswith((".", "/", "$", "dist/")) and not each.startswith("localhost/")
    ]


def changelog() -> list[tuple[str, str]]:
    """(Version, date) of the releases, the newest first."""
    headings = r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$"
    return re.findall(headings, (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_changelog_begins_with_this_version() -> None:
    releases = changelog()
    assert releases[0][0] == __version__
    assert releases == sorted(releases, reverse=True)
    text = (ROOT / "CHANGELOG.md").read_text()
    assert len(re.findall(r"^## ", text, re.MULTILINE)) - ("## [Unreleased]" in text) == len(
        releases
    )


def test_debians_changelog_has_the_same_releases() -> None:
    text = (ROOT / "debian" / "changelog").read_text()
    assert re.findall(r"^ovs-metadata-agent \((.*?)\)", text, re.MULTILINE) == [
        version for version, _date in changelog()
    ]


def test_the_spec_of_the_rpm_has_this_version() -> None:
    spec = (ROOT / "packaging" / "rpm" / "ovs-metadata-agent.spec").read_text()
    assert re.findall(r"^Version: +(\S+)$", spec, re.MULTILINE) == [__version__]
    newest = spec.partition("%changelog\n")[2].partition("\n")[0]
    assert newest.endswith(f" - {__version__}-1")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_files_of_this_version(page: Path) -> None:
    named = re.findall(rf"{NAME}[-_](\d+\.\d+\.\d+)", page.read_text())
    assert set(named) <= {__version__}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_install_from_the_tree_or_from_a_file(page: Path) -> None:
    assert unpublished(page.read_text()) == []


@pytest.mark.parametrize(
    "command",
    [
        "pip install ovs-metadata-agent",
        "/opt/x/bin/pip install --upgrade 'ovs-metadata-agent[agent]==0.2.0'",
        "apt-get install -y ovs-metadata-agent",
        "podman pull registry.example/ovs-metadata-agent:0.2.0",
    ],
)
def test_a_name_that_an_index_would_have_to_know_is_found(command: str) -> None:
    assert len(unpublished(f"Then run `{command}`.")) == 1


@pytest.mark.parametrize(
    "command",
    [
        "apt-get install ./ovs-metadata-agent_0.2.0_amd64.deb",
        "pip install './ovs_metadata_agent-0.2.0-py3-none-any.whl[agent]'",
        "podman run localhost/ovs-metadata-agent",
        "podman healthcheck run ovs-metadata-agent",
        "systemctl enable --now ovs-metadata-agent",
    ],
)
def test_a_file_a_directory_and_a_service_are_no_such_names(command: str) -> None:
    assert unpublished(f"Then run `{command}`.") == []
