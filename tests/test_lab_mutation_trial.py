"""Mutants are tried in a copy of the tree, and the copy is as it was afterwards."""

import json
import queue
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.mutation import selection, trial
from lab.mutation.candidates import Mutant
from lab.mutation.command import Outcome, report, try_mutant
from lab.mutation.reach import Reach
from lab.mutation.trial import Result, Tree

CODE = "def double(x):\n    return 2 * x\n"

TESTS = """\
import time

import pytest

from halves import double


def test_none():
    assert double(0) == 0


@pytest.mark.parametrize("number", [1, 2])
def test_some(number):
    assert double(number) == number + number


def test_not_selected():
    assert False
"""

NONE = "tests/test_double.py::test_none"
SOME = "tests/test_double.py::test_some[2]"


def mutant(text: str) -> Mutant:
    return Mutant(Path("src/halves.py"), 2, CODE, text)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    source = tmp_path / "source"
    files = {
        "src/halves.py": CODE,
        "tests/test_double.py": TESTS,
        "tools/lab/mutation/selection.py": Path(selection.__file__).read_text(),
        "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["alone: by itself"]\n',
    }
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    subprocess.run(("git", "init", "-q", source), check=True)
    return Tree(tmp_path / "copy", source)


def test_only_the_selected_tests_run_and_a_mutant_does_not_outlive_its_trial(tree: Tree) -> None:
    tests = [SOME, NONE]
    assert tree.run(tests, 1, 1) == Result(passed=True)
    with tree.mutated(mutant(CODE.replace("2", "3"))):
        assert tree.run(tests, 1, 1) == Result(passed=False, failed=(SOME,))
    # The file has the same size again, and perhaps the same second.
    assert tree.run(tests, 1, 1) == Result(passed=True)


def test_a_file_that_cannot_be_imported_has_failed(tree: Tree) -> None:
    with tree.mutated(mutant(CODE + "nothing\n")):
        assert tree.run([NONE], 1, 1) == Result(passed=False, failed=("tests/test_double.py",))


def test_tests_that_do_not_end_are_ended(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "START", 0.0)
    with tree.mutated(mutant("while True:\n    pass\n")):
        assert tree.run([NONE], 0.1, 0.1) == Result(passed=False)


def test_it_is_known_how_long_each_test_takes(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = tmp_path / "seconds"
    monkeypatch.setenv(selection.FAILED, str(tmp_path / "of the run that this test is in"))
    assert tree.pytest(["tests"], {selection.SECONDS: str(seconds)}) == 1
    assert json.loads(seconds.read_text()).keys() == {NONE, SOME, SOME.replace("2", "1")}
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["seconds"]


class FakeTree:
    """Answers what it is to answer, with the mutant and without it."""

    def __init__(self, mutated: Result, unchanged: Result) -> None:
        self._results = {True: mutated, False: unchanged}
        self._mutated = False
        self.runs: list[tuple[bool, Sequence[str]]] = []

    @contextmanager
    def mutated(self, _mutant: Mutant) -> Iterator[None]:
        self._mutated = True
        yield
        self._mutated = False

    def run(self, tests: Sequence[str], _seconds: float, _longest: float) -> Result:
        self.runs.append((self._mutated, tests))
        return self._results[self._mutated]


REACH = Reach(
    {NONE: 0.1, SOME: 0.2}, {"src/halves.py": {2: [f"{NONE}|run", f"{SOME}|run"]}}, {}, {}
)
PASSED = Result(passed=True)


@pytest.mark.parametrize(
    ("mutated", "unchanged", "noticed", "runs"),
    [
        (PASSED, PASSED, False, [(True, [NONE, SOME])]),
        (Result(False, (SOME,)), PASSED, True, [(True, [NONE, SOME]), (False, [SOME])]),
        (
            Result(False, (SOME,)),
            Result(False, (SOME,)),
            False,
            [(True, [NONE, SOME]), (False, [SOME])],
        ),
        # Its file cannot be imported: neither fails without the mutant.
        (
            Result(False, ("tests/test_double.py",)),
            PASSED,
            True,
            [(True, [NONE, SOME]), (False, [NONE, SOME])],
        ),
        # Not ended: in the time that it had, and in the same time without the mutant.
        (Result(False), PASSED, True, [(True, [NONE, SOME]), (False, [NONE, SOME])]),
        (Result(False), Result(False), False, [(True, [NONE, SOME]), (False, [NONE, SOME])]),
    ],
)
def test_a_mutant_is_noticed_if_tests_fail_with_it_and_pass_without(
    mutated: Result, unchanged: Result, noticed: bool, runs: list[tuple[bool, list[str]]]
) -> None:
    tree = FakeTree(mutated, unchanged)
    trees: queue.Queue[Tree] = queue.Queue()
    trees.put(tree)  # type: ignore[arg-type]
    assert try_mutant(mutant(CODE), REACH, trees).noticed == noticed
    assert tree.runs == runs
    assert trees.qsize() == 1


def test_a_mutant_that_no_test_reaches_survives() -> None:
    unreached = Mutant(Path("src/other.py"), 2, CODE, CODE)
    outcome = try_mutant(unreached, REACH, queue.Queue())
    assert outcome == Outcome("src/other.py", False, "no test reaches it")


def test_the_table_has_each_package_and_all() -> None:
    outcomes = [
        Outcome("agent/workers.py", True, ""),
        Outcome("agent/agent.py", False, ""),
        Outcome("agent/admin/page.py", True, ""),
        Outcome("store/store.py", True, ""),
    ]
    assert report(outcomes) == [
        "| package | mutants | noticed | % |",
        "|---|---|---|---|",
        "| agent | 3 | 2 | 67 |",
        "| store | 1 | 1 | 100 |",
        "| all | 4 | 3 | 75 |",
    ]
