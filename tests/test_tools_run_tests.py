"""What tools/test asks of pytest."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "run-tests.sh"

PYTEST = """#!/bin/sh
echo "$@" >>asked
exit 0
"""

FILES = {"tests/test_one.py": "", "tests/test_two.py": "@pytest.mark.alone"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with two files of tests, one of them with a test that runs alone, and a pytest."""
    for name, text in {**FILES, "bin/pytest": PYTEST}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "bin" / "pytest").chmod(0o755)
    return tmp_path


def asked(tree: Path, *arguments: str) -> list[tuple[str, str]]:
    """What each pytest was to run, and the arguments behind the mark."""
    subprocess.run(
        ["bash", "-euc", 'VENV=.; . "$0"; TESTS=(tests); run_tests 2 "$@"', SCRIPT, *arguments],
        cwd=tree,
        check=True,
    )
    runs = []
    for line in (tree / "asked").read_text().splitlines():
        before, rest = line.split(" -m ")
        runs.append((before.partition(" -n ")[0], rest))
    return runs


def test_all_files_run_and_those_with_a_marked_test_again(tree: Path) -> None:
    assert asked(tree) == [("tests", "not alone"), ("tests/test_two.py", "alone")]


def test_a_file_among_the_arguments_is_all_that_runs(tree: Path) -> None:
    assert asked(tree, "tests/test_one.py", "-q") == [("tests/test_one.py", "not alone -q")]


def test_a_test_among_the_arguments_is_all_that_runs(tree: Path) -> None:
    named = "tests/test_two.py::test_it"
    assert asked(tree, "-x", named) == [(named, "not alone -x"), (named, "alone -x")]


def test_other_arguments_choose_among_all_tests(tree: Path) -> None:
    arguments = ("-k", "one", "--junitxml=test_x.py", "test_absent.py")
    rest = " ".join(arguments)
    assert asked(tree, *arguments) == [
        ("tests", f"not alone {rest}"),
        ("tests/test_two.py", f"alone {rest}"),
    ]
