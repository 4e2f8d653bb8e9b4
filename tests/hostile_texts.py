"""Texts of an attacker who wants to command a terminal, or to forge a line or a tag."""

from collections.abc import Iterator
from typing import Any

MARK = "FORGED"
HOSTILE = [
    f"\x1b[2J\x1b]0;{MARK}\x07",
    f"x\n{MARK} line",
    f"x\r{MARK}\rline",
    f"x\x85{MARK}\x9b31m\x7f\x08",
    f"x\u2028{MARK}\u2029",
    f"\u202e{MARK}\u2066\u200b",
    f"\ud800{MARK}",
    f"[red]{MARK}[/red] <script>{MARK}</script> ' \" & % {{{{x}}}}",
    f"\0{MARK}",
]

BOMB = "[" * 100_000


def harmless(printed: str) -> bool:
    """Whether what a command printed holds nothing of them but as text within a line."""
    return all(
        line.isprintable() and not line.lstrip().startswith(MARK) for line in printed.split("\n")
    )


def spoilt(document: Any, hostile: Any) -> Iterator[Any]:
    """The document with each value in it, in turn, replaced by something hostile."""
    yield hostile
    if isinstance(document, dict):
        for name, value in document.items():
            for each in spoilt(value, hostile):
                yield {**document, name: each}
    elif isinstance(document, list):
        for place, value in enumerate(document):
            for each in spoilt(value, hostile):
                yield [*document[:place], each, *document[place + 1 :]]


def with_texts(document: Any, hostile: str) -> Any:
    """The document with something hostile behind every text in it."""
    match document:
        case dict():
            return {name: with_texts(value, hostile) for name, value in document.items()}
        case list():
            return [with_texts(value, hostile) for value in document]
        case str():
            return document + hostile
    return document
