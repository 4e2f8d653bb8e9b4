"""Changes the code at random, and looks whether the unit tests notice: `make mutants`.

cosmic-ray makes the mutants. Each is tried in a copy of the tree, first by the test files that
import the mutated module, then by all unit tests, if they have not failed. What survives is
written with its difference: it is either equivalent to the code, or a test is missing.
"""

import argparse
import ast
import contextlib
import os
import random
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

with contextlib.suppress(ImportError):  # only `make mutants` installs it
    from cosmic_ray.commands.init import init
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_db import WorkDB, use_db

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent", "cli", "flows", "host", "proxy", "publisher", "store")
TIMEOUT = 900.0
"""Seconds after which a mutant counts as noticed: its tests do not end."""


@dataclass(frozen=True)
class Outcome:
    """A mutant: the file it is in, whether tests failed with it, and the difference it makes."""

    path: str
    killed: bool
    diff: str


def annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations begin and end: nothing is executed there. Lines count from 1."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if isinstance(part, ast.expr) and part.end_lineno and part.end_col_offset:
                begin = (part.lineno, part.col_offset)
                found.append((begin, (part.end_lineno, part.end_col_offset)))
    return found


def importers(module: str, tests: Iterable[tuple[str, str]]) -> list[str]:
    """The test files, given as name and text, that import a module of the package."""
    package, _, name = module.rpartition(".")
    pattern = re.compile(
        rf"^(?:from|import) {re.escape(module)}\b"
        rf"|^from {re.escape(package)} import [^#\n]*\b{re.escape(name)}\b",
        re.MULTILINE,
    )
    return [path for path, text in tests if pattern.search(text)]


def report(outcomes: Sequence[Outcome]) -> list[str]:
    """How many mutants of each package were noticed."""
    lines = []
    for package in (*PACKAGES, ""):
        own = [each for each in outcomes if each.path.startswith(package)]
        if own:
            killed = sum(each.killed for each in own)
            name = package or "all"
            lines.append(f"{100 * killed / len(own):5.0f} % of {len(own):4} noticed  {name}")
    return lines


def _mutants(files: Sequence[Path], chance: random.Random) -> Iterator[Any]:
    """Mutants without end, as cosmic-ray describes them; a long file has more than a short one."""
    weights = [path.read_text().count("\n") for path in files]
    while True:
        (path,) = chance.choices(files, weights)
        excluded = annotations(path.read_text())
        with (
            tempfile.TemporaryDirectory() as directory,
            use_db(f"{directory}/db", WorkDB.Mode.create) as database,
        ):
            init([path], database, {})
            items = [item.mutations[0] for item in database.work_items]
        items = [
            each
            for each in items
            if not any(begin <= tuple(each.start_pos) <= end for begin, end in excluded)
        ]
        if items:
            items.sort(key=lambda each: (each.operator_name, each.occurrence))
            yield chance.choice(items)


def _copy(into: Path) -> None:
    command = ("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, into / name, follow_symlinks=False)
    # Some tests ask git which files there are.
    subprocess.run(("git", "init", "-q", into), check=True)
    subprocess.run(("git", "-C", into, "add", "-A"), check=True)


def _try(mutant: Any, tests: Sequence[str], processes: int) -> tuple[bool, str]:
    spread = ("-n", str(processes), "--dist", "loadfile") if processes > 1 else ()
    command = (sys.executable, "-m", "pytest", "-x", "-q", "-m", "not alone", *spread, *tests)
    result = mutate_and_test([mutant], shlex.join(command), TIMEOUT)
    return bool(result.is_killed), result.diff or ""


def main() -> int:
    """Run the command; the exit status says whether enough was noticed."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=100, help="how many; default: 100")
    parser.add_argument("--minutes", type=float, default=120, help="how long at most; 120")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31))
    parser.add_argument("--floor", type=float, default=80, help="percent to be noticed; 80")
    parser.add_argument(
        "--importers-only", action="store_true", help="try no other tests than the importers'"
    )
    options = parser.parse_args()
    print(f"--seed {options.seed}", flush=True)
    chance = random.Random(options.seed)  # noqa: S311 - to be repeated
    end = time.monotonic() + 60 * options.minutes
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        _copy(Path(directory))
        os.chdir(directory)
        os.environ["PYTHONPATH"] = f"{directory}/src"
        files = sorted(path for package in PACKAGES for path in Path(package).rglob("*.py"))
        tests = [(str(path), path.read_text()) for path in sorted(Path("tests").glob("test_*.py"))]
        for mutant in _mutants(files, chance):
            if len(outcomes) == options.number or time.monotonic() > end:
                break
            path = mutant.module_path
            module = ".".join(("ovs_metadata", *path.with_suffix("").parts))
            chosen = importers(module, tests)
            killed, diff = _try(mutant, chosen, 1) if chosen else (False, "")
            if not killed and not options.importers_only:
                killed, diff = _try(mutant, ["tests"], (os.cpu_count() or 1) + 1)
            outcomes.append(Outcome(str(path), killed, diff))
            print("noticed " if killed else "SURVIVED", path, mutant.start_pos[0], flush=True)
            if not killed:
                print(diff, flush=True)
    print("\n".join(report(outcomes)))
    noticed = sum(each.killed for each in outcomes)
    return int(noticed * 100 < options.floor * len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
