"""Commands in the documentation that a test runs: which they are, and how they are marked.

A block of shell commands is run if the line above it is `<!-- tested -->`. Of a section named in
`WHOLE_SECTIONS` every block is run, marked or not. Blocks of a page are run from top to bottom, on
one machine. Whatever a block reads from its standard input is `INPUT`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MARK = "<!-- tested -->"

WHOLE_SECTIONS = {"README.md": "## Installing on a hypervisor, by hand"}
"""A section's heading, by its page."""

INPUT = "a-secret\n"

_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARKED = re.compile(rf"{re.escape(MARK)}\n\Z")


@dataclass(frozen=True)
class Block:
    """Some lines of shell, and their place."""

    page: str
    line: int
    text: str

    @property
    def foreground(self) -> bool:
        """Whether it starts the agent, and so does not end by itself."""
        return self.text.strip() == "ovs-metadata-agent"

    def __str__(self) -> str:
        """Return its place, as editors understand it."""
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> list[Block]:
    """The blocks of a page that are to be run.

    Raises:
        ValueError: a mark is not above a block of shell commands, or a section is not there.
    """
    whole = _section(page, text)
    found, marks = [], 0
    for block in _FENCED.finditer(text):
        marked = bool(_MARKED.search(text[: block.start()]))
        marks += marked and block["language"] == "sh"
        if block["language"] == "sh" and (marked or block.start() in whole):
            line = text.count("\n", 0, block.start()) + 2
            found.append(Block(page, line, block["text"]))
    if marks != sum(line == MARK for line in text.splitlines()):
        raise ValueError(f"{page}: {MARK} must be the line above a block that begins with ```sh")
    return found


def _section(page: str, text: str) -> range:
    heading = WHOLE_SECTIONS.get(page)
    if not heading:
        return range(0)
    begin = re.search(rf"^{re.escape(heading)}$", text, re.MULTILINE)
    if not begin:
        raise ValueError(f"{page} has no section {heading!r}: WHOLE_SECTIONS has to know its name")
    level = heading.partition(" ")[0]
    end = re.compile(rf"^{level} ", re.MULTILINE).search(text, begin.end())
    return range(begin.start(), end.start() if end else len(text))


def commands(block: Block) -> Iterator[str]:
    """The names of our commands that it calls."""
    yield from re.findall(r"\b(mn-conf|ovs-metadata-\w+|ovs-metadata \w+)\b(?!/)", block.text)
