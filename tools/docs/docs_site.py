"""Builds the documentation as a site, by mkdocs, which fails at links that lead nowhere.

The pages link to files outside docs/ as well, which mkdocs does not know of: to the README, or to
the sample configuration. So it is given a copy of the part of the tree that can be reached from the
README and from the pages of docs/ by links.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from docs.command_pages import command_pages
from lab.rig.process import LabError, run

ROOT = Path(__file__).resolve().parents[2]

LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
"""A link in Markdown to something else than a place on the same page."""

TITLED = re.compile(r"\[([\w./-]+\.md)\]\(([^)\s#]+)(#[^)\s]*)?\)")
"""A link whose text is the name of a file. The site has the page's title in its place."""

TITLE = re.compile(r"^# (.+)$", re.MULTILINE)

CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)

NAVIGATION: dict[str, Sequence[str]] = {
    "Get started": (
        *("README.md", "docs/index.md", "docs/quickstart.md", "docs/first-hour.md"),
        *("docs/install.md", "docs/containers.md", "docs/ansible.md", "devstack/README.md"),
        "docs/faq.md",
    ),
    "Guides": (
        *("docs/configuration.md", "docs/publisher.md", "docs/store.md", "docs/migration.md"),
        *("docs/ovn.md", "docs/metadata-options.md", "docs/guest-routing.md"),
        *("docs/cleanup.md", "docs/ryu.md"),
    ),
    "Operate": (
        *("docs/operations.md", "docs/troubleshooting.md", "docs/status.md", "docs/security.md"),
        "docs/hostile-guests.md",
    ),
    "Reference": (
        *("docs/configuration-reference.md", "docs/mn-conf.md", "docs/metrics.md"),
        "docs/support.md",
    ),
    "Commands": tuple(command_pages()),
    "How it works": (
        *("docs/architecture.md", "docs/flows.md", "docs/pipeline.md", "docs/nova-side.md"),
        "docs/cloud-init.md",
    ),
    "Project": ("CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "CHANGELOG.md"),
}
"""The menus. mkdocs reports pages that are in none of them."""


def pages(root: Path) -> list[Path]:
    """README and docs/, with every file they lead to, relative to `root`."""
    found: dict[Path, None] = {}
    waiting = [root / "README.md", *sorted((root / "docs").rglob("*.*"))]
    while waiting:
        path = waiting.pop()
        inside = path.relative_to(root)
        if inside not in found and path.is_file():
            found[inside] = None
            waiting += _linked(path, root) if path.suffix == ".md" else ()
    return list(found)


def _linked(page: Path, root: Path) -> Iterator[Path]:
    for target in LINK.findall(CODE.sub("", page.read_text())):
        if ":" not in target:
            path = (page.parent / target).resolve()
            if path.is_relative_to(root):
                yield path


def with_titles(page: Path) -> str:
    """The text of a page, with the titles of other pages where it names their files."""

    def titled(link: re.Match[str]) -> str:
        path = page.parent / link[2]
        title = TITLE.search(path.read_text()) if path.is_file() else None
        return f"[{title[1] if title else link[1]}]({link[2]}{link[3] or ''})"

    return TITLED.sub(titled, page.read_text())


def build(site: Path, root: Path = ROOT) -> str:
    """Write the site into a directory, in place of what was there; returns the output of mkdocs.

    Raises:
        LabError: a link leads nowhere, or a page is in no menu.
    """
    with tempfile.TemporaryDirectory(prefix="ovs-metadata-docs-") as directory:
        source = Path(directory, "source")
        there = pages(root)
        for path in there:
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                (source / path).write_text(with_titles(root / path))
            else:
                shutil.copy(root / path, source / path)
        for name, text in command_pages().items():
            (source / name).parent.mkdir(exist_ok=True)
            (source / name).write_text(text)
        settings = {
            "INHERIT": str(ROOT / "mkdocs.yml"),
            "docs_dir": str(source),
            "nav": [
                {menu: [name for name in names if (source / name).exists()]}
                for menu, names in NAVIGATION.items()
            ],
        }
        file = Path(directory, "mkdocs.yml")
        file.write_text(json.dumps(settings))  # which is YAML, too
        command = (sys.executable, "-m", "mkdocs", "build", "--config-file", file)
        return run(*command, "--site-dir", site.resolve(), timeout=120)


def main() -> None:
    """Build it where it is wanted, and say where."""
    parser = argparse.ArgumentParser(description="Build the documentation, and check its links.")
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT / "build" / "docs")
    site = parser.parse_args().directory
    try:
        build(site)
    except LabError as error:
        sys.exit(str(error))
    print(f"{site}/index.html")


if __name__ == "__main__":
    main()
