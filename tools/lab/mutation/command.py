"""Changes the code at random, and looks whether the unit tests notice: `make mutants`.

Each mutant is tried by the tests that reach the changed line. What survives is printed with its
difference: it does the same as the code, or a test is missing.
"""

import argparse
import itertools
import os
import queue
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.mutation.candidates import Mutant, draw
from lab.mutation.measure import PACKAGES, measured
from lab.mutation.reach import Reach
from lab.mutation.trial import Tree


@dataclass(frozen=True)
class Outcome:
    """A mutant's file, whether the tests have noticed it, and what shows that or is missing."""

    path: str
    noticed: bool
    reason: str


def report(outcomes: Sequence[Outcome]) -> list[str]:
    """How many mutants of each package were noticed, as a table."""
    lines = ["| package | mutants | noticed | % |", "|---|---|---|---|"]
    for package in (*PACKAGES, ""):
        own = [each for each in outcomes if each.path.startswith(package)]
        if own:
            noticed = sum(each.noticed for each in own)
            share = round(100 * noticed / len(own))
            lines.append(f"| {package or 'all'} | {len(own)} | {noticed} | {share} |")
    return lines


def try_mutant(mutant: Mutant, reach: Reach, trees: "queue.Queue[Tree]") -> Outcome:
    """Run the tests that reach the mutant, in a tree that is free."""
    path = str(mutant.path)
    tests = reach.tests(path, mutant.original, mutant.line)
    if not tests:
        return Outcome(path, False, "no test reaches it")
    times = [reach.seconds[test] for test in tests]
    tree = trees.get()
    try:
        with tree.mutated(mutant):
            result = tree.run(tests, sum(times), max(times))
        if result.passed:
            return Outcome(path, False, f"{len(tests)} tests reach it")
        # A test that fails without the mutant, too, has not noticed it.
        again = [
            test
            for test in tests
            if test in result.failed or test.partition("::")[0] in result.failed
        ] or tests
        if not tree.run(again, sum(times), max(times)).passed:
            return Outcome(path, False, f"fails without it, too: {', '.join(again[:1])}")
        return Outcome(path, True, ", ".join(result.failed) or "the tests do not end")
    finally:
        trees.put(tree)


def main() -> int:
    """Run the command; the exit status says whether enough was noticed."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=100, help="how many; 100 by default")
    parser.add_argument("--minutes", type=float, default=120, help="how long at most; 120")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31))
    parser.add_argument("--floor", type=float, default=80, help="percent to be noticed; 80")
    options = parser.parse_args()
    print(f"--seed {options.seed}", flush=True)
    end = time.monotonic() + 60 * options.minutes
    processes = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        trees: queue.Queue[Tree] = queue.Queue()
        for number in range(processes):
            trees.put(Tree(Path(directory, str(number))))
        unchanged = Tree(Path(directory, "unchanged"))
        reach = measured(unchanged)
        os.chdir(unchanged.top)
        files = sorted(path for package in PACKAGES for path in Path(package).rglob("*.py"))
        mutants = draw(files, random.Random(options.seed))  # noqa: S311 - to be repeated
        outcomes = _try_all(itertools.islice(mutants, options.number), reach, trees, end)
        os.chdir("/")
    print("\n".join(report(outcomes)))
    noticed = sum(each.noticed for each in outcomes)
    return int(noticed * 100 < options.floor * len(outcomes))


def _try_all(
    mutants: Iterable[Mutant], reach: Reach, trees: "queue.Queue[Tree]", end: float
) -> list[Outcome]:
    """Try them one beside another until all are tried or time is up; print what happens."""

    def tried(mutant: Mutant) -> Outcome | None:
        if time.monotonic() > end:
            return None
        outcome = try_mutant(mutant, reach, trees)
        word = "noticed " if outcome.noticed else "SURVIVED"
        lines = [f"{word} {mutant.path}:{mutant.line} ({outcome.reason})"]
        print("\n".join(lines if outcome.noticed else [*lines, mutant.difference()]), flush=True)
        return outcome

    with ThreadPoolExecutor(trees.qsize()) as pool:
        return [outcome for outcome in pool.map(tried, mutants) if outcome]


if __name__ == "__main__":
    sys.exit(main())
