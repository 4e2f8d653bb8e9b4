"""The pages of the site about commands, from what the commands say of themselves.

The same source as the manual pages have (docs.man_pages), in Markdown. mn-conf has a page by hand.
"""

import re
from collections.abc import Iterable, Iterator

from docs.man_pages import PAGES, Entry, Section, sections
from docs.man_pages import Page as ManPage


def command_pages() -> dict[str, str]:
    """The text of each page, by its name in the site."""
    return {f"commands/{page.name}.md": _page(page, *sections(page.name)) for page in PAGES}


def _page(page: ManPage, own: Section, *others: Section) -> str:
    lines = [f"# {page.name}", "", f"{page.summary[0].upper()}{page.summary[1:]}.", ""]
    lines += [*_section(own), *(f"{text}\n" for text in page.more)]
    for section in others:
        lines += [f"## {_name(section)}", "", *_section(section)]
    if page.environment:
        lines += ["## Environment", "", *_table("variable", page.environment)]
    if page.files:
        lines += ["## Files", "", *_table("file", page.files)]
    return "\n".join(lines)


def _name(section: Section) -> str:
    """A command without its options and arguments."""
    return section.usage.partition(" [")[0]


def _section(section: Section) -> Iterator[str]:
    yield from ("```", section.usage, "```", "")
    for paragraph in section.text.split("\n\n"):
        lines = paragraph.splitlines()
        if lines and lines[0] == "\b":  # click: what follows is not to be filled
            yield from ("```", *lines[1:], "```", "")
        else:
            yield from (_escaped(" ".join(paragraph.split())), "")
    if section.options:
        yield from _table("option", ((each.term, each.text) for each in _sorted(section.options)))


def _sorted(options: Iterable[Entry]) -> list[Entry]:
    """The options in their order, help last."""
    return sorted(options, key=lambda each: "--help" in each.term)


def _table(heading: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield from (f"| {heading} | |", "|---|---|")
    for term, text in rows:
        code = term.replace("|", "\\|")
        yield f"| `{code}` | {_escaped(' '.join(text.split()))} |"
    yield ""


def _escaped(text: str) -> str:
    """Text without the characters that Markdown takes for markup."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)
