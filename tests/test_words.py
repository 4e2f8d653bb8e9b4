"""Plain English: words that hide who does what are in no text of the project, nor in a test's name.

CONTRIBUTING.md has what to write in their place.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

HIDING = re.compile(
    r"\b(told|said|anew|stands?(?!-in)|standing|nobody|whoever|somebody|anybody|everybody|of ours|"
    r"(?:is|are|be) had|likewise|in force|at an end|signs? of life|says? so|becomes? of|came of|"
    r"for want of|(?:is|are) of (?:no )?use|whomever|whose it is)\b",
    re.IGNORECASE,
)
"""No actor (nobody, whoever, is said), or no noun of the field (in force, anew, says so)."""

PROGRAMS = (
    *("agent", "benchmarks", "cli", "devstack", "flows", "functional_tests", "host", "proxy"),
    *("publisher", "src/ovs_metadata", "store", "tests", "tools"),
)
"""Directories whose docstrings, comments and messages have none of these words."""

FILES = [
    path.relative_to(ROOT)
    for directory in PROGRAMS
    for path in sorted((ROOT / directory).rglob("*.py"))
    if path.resolve() == path and path != Path(__file__)  # not by a link
]

TEXTS = ("benchmarks", "debian", "devstack", "docs", "etc", "packaging", "tools")
"""Directories of pages, scripts and samples."""

TEXT = re.compile(r"\.(md|sh|yml|sample|conf|service|timer|1)|", re.ASCII)

PAGES = [
    path.relative_to(ROOT)
    for path in (
        *(each for directory in TEXTS for each in sorted((ROOT / directory).rglob("*"))),
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")),
    )
    if path.is_file() and (TEXT.fullmatch(path.suffix) or path.parent == ROOT)
]

USER = re.compile(r'"nobody"|\b(as|user|user =) nobody\b|reuid=nobody')
"""The user of that name."""

CODE = re.compile(r"`[^`]*`")


def _found(source: str) -> Iterator[str]:
    """Words in strings and comments, with their line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.STRING, tokenize.COMMENT}:
            for match in HIDING.finditer(USER.sub("", token.string)):
                line = token.start[0] + token.string[: match.start()].count("\n")
                yield f"line {line}: {match[0]}"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_texts_name_who_does_what(file: Path) -> None:
    assert list(_found((ROOT / file).read_text())) == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_pages_name_who_does_what(page: Path) -> None:
    text = USER.sub("", CODE.sub("", (ROOT / page).read_text()))
    assert [match[0] for match in HIDING.finditer(text)] == []


TESTS = [file for file in FILES if file.parts[0] in {"tests", "functional_tests"}]

NAME = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)


@pytest.mark.parametrize("file", TESTS, ids=str)
def test_names_of_tests_name_who_does_what(file: Path) -> None:
    names = NAME.findall((ROOT / file).read_text())
    allowed = {"test_the_user_nobody_is_accepted"}
    found = [name for name in names if HIDING.search(name.replace("_", " "))]
    assert [name for name in found if name not in allowed and "stand_in" not in name] == []


def test_words_are_found_in_texts_and_not_in_names() -> None:
    source = '"""One fact.\n\nIt is told anew."""\nsaid = 1  # nobody\n'
    assert list(_found(source)) == ["line 3: told", "line 3: anew", "line 4: nobody"]
