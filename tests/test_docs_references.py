"""Tests and files that the documentation cites exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
]

_FILE = re.compile(r"`((?:[\w.-]+/)*test_\w+\.py)(?:::(\w+))?`")


def _functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _missing(text: str) -> Iterator[str]:
    """What is cited as `[tests/]test_file.py[::test_name]`, and is not there."""
    for file, name in _FILE.findall(text):
        path = ROOT / file if "/" in file else ROOT / "functional_tests" / file
        if not path.is_file() or (name and name not in _functions(path)):
            yield f"{file}::{name}" if name else file


def _threats() -> list[list[str]]:
    """The cells of the table of threats, a row each."""
    section = (ROOT / "docs" / "security.md").read_text().partition("\n## Threats\n")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.partition("\n## ")[0].splitlines()
        if line.startswith("|")
    ]
    return rows[2:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tests_that_are_cited_exist(document: Path) -> None:
    assert list(_missing(document.read_text())) == []


def test_each_threat_names_the_tests_that_show_it() -> None:
    threats = _threats()
    assert len(threats) > 15
    for *threat, evidence in threats:
        cited = evidence.split(", ")
        assert all((found := _FILE.fullmatch(each)) and found[2] for each in cited), threat


@pytest.mark.parametrize(
    "cited",
    [
        "`tests/test_docs_references.py::test_nothing`",
        "`test_docs_references.py`",
        "`functional_tests/test_nothing.py`",
    ],
)
def test_what_does_not_exist_is_named(cited: str) -> None:
    assert list(_missing(f"| see {cited} |")) == [cited.strip("`")]
    assert not list(_missing("`tests/test_docs_references.py`"))


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_capacity_table_has_the_figures_of_the_benchmarks() -> None:
    section = (ROOT / "docs/operations.md").read_text().partition("\n## Capacity\n")[2]
    capacity = _rows(section)
    assert len(capacity) > 4
    missing = set(capacity) - set(_rows((ROOT / "benchmarks/README.md").read_text()))
    assert missing == set()


def _prose(text: str) -> Iterator[str]:
    """Lines that are neither of a table nor of a block of code."""
    in_block = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            in_block = not in_block
        elif not in_block and not line.startswith(("|", "    ")):
            yield line


@pytest.mark.parametrize(
    "document",
    [each for each in DOCUMENTS if each.name != "pipeline.md"],
    ids=lambda path: path.name,
)
def test_prose_is_at_most_120_characters_wide(document: Path) -> None:
    assert [line for line in _prose(document.read_text()) if len(line) > 120] == []
