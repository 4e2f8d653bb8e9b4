"""The documentation builds as a site; links and anchors that lead nowhere stop it."""

import re
from pathlib import Path

import pytest

from docs.docs_site import NAVIGATION, ROOT, build, pages
from lab.rig.process import LabError

# What a browser would load: nothing of it may be elsewhere.
LOADED = re.compile(r"""<(?:script|img|iframe)\b[^>]*\bsrc="([^"]+)"|<link\b[^>]*\bhref="([^"]+)""")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree of documentation, without faults."""
    root = tmp_path / "tree"
    (root / "docs").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "README.md").write_text("# Read me\n\n[all](docs/index.md), `[no](link.md)`\n")
    (root / "docs/index.md").write_text(
        "# All\n\n[sample](../etc/sample) and [part](security.md#a-part)\n"
    )
    (root / "docs/security.md").write_text("# Security\n\n## A part\n\n[up](../README.md)\n")
    (root / "etc/sample").write_text("sample\n")
    (root / "etc/other").write_text("not linked\n")
    return root


def test_all_pages_build_and_every_link_in_them_leads_somewhere(tmp_path: Path) -> None:
    build(tmp_path / "site")
    for page in (ROOT / "docs").glob("*.md"):
        assert (tmp_path / "site" / "docs" / f"{page.stem}.html").is_file()
    commands = (tmp_path / "site/commands/ovs-metadata.html").read_text()
    assert '<h2 id="ovs-metadata-port-show">ovs-metadata port show<' in commands
    assert "<code>--sort-column COLUMN</code>" in commands
    loaded = {
        (page.name, url)
        for page in (tmp_path / "site").rglob("*.html")
        for found in LOADED.findall(page.read_text())
        for url in found
        if re.match(r"(?:\w+:)?//", url)
    }
    assert loaded == set()


def test_links_have_the_titles_of_pages_as_their_texts(tree: Path, tmp_path: Path) -> None:
    (tree / "docs/index.md").write_text(
        "# All\n\n[security.md](security.md#a-part), [here](security.md), [sample](../etc/sample)\n"
    )
    build(tmp_path / "site", tree)
    page = (tmp_path / "site/docs/index.html").read_text()
    assert '<a href="security.html#a-part">Security</a>' in page
    assert '<a href="security.html">here</a>' in page


def test_every_page_is_in_a_menu_and_once() -> None:
    names = [name for menu in NAVIGATION.values() for name in menu]
    assert len(names) == len(set(names))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= set(names)


def test_what_pages_lead_to_is_there_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    assert {str(path) for path in pages(tree)} == {
        *("README.md", "docs/index.md", "docs/security.md", "etc/sample")
    }
    build(tmp_path / "site", tree)
    assert (tmp_path / "site/etc/sample").read_text() == "sample\n"


def test_a_link_that_leads_nowhere_is_an_error(tree: Path, tmp_path: Path) -> None:
    complaints = {
        "[a](nowhere.md)": "nowhere.md",
        "[a](security.md#another-part)": "another-part",
        "[a](#nowhere)": "#nowhere",
        "[a](../etc/missing)": "etc/missing",
        "[a](/docs/index.md)": "absolute",
    }
    with (tree / "docs/security.md").open("a") as page:
        page.write("".join(f"\n{text}\n" for text in complaints))
    with pytest.raises(LabError) as error:
        build(tmp_path / "site", tree)
    problems = [line for line in str(error.value).splitlines() if "docs/security.md" in line]
    assert len(problems) == len(complaints)
    for complaint in complaints.values():
        assert [line for line in problems if complaint in line], complaint


def test_a_page_that_is_in_no_menu_is_an_error(tree: Path, tmp_path: Path) -> None:
    (tree / "docs/forgotten.md").write_text("# Forgotten\n")
    with pytest.raises(LabError, match=re.escape("docs/forgotten.md")):
        build(tmp_path / "site", tree)
