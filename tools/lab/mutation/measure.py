"""Runs the unit tests once, to know which lines each of them executes and how long it takes.

The result is kept in build/mutants-reach until a Python file changes.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from lab.mutation import selection
from lab.mutation.reach import Reach, imported_by, read_contexts, started_by
from lab.mutation.trial import ROOT, Tree

KEPT = ROOT / "build" / "mutants-reach"
PACKAGES = ("agent", "cli", "flows", "host", "proxy", "publisher", "store")


class MeasureError(Exception):
    """The unit tests could not be run."""


def measured(tree: Tree) -> Reach:
    """What the unit tests execute; tests that fail are left out.

    Raises:
        MeasureError: pytest did not run.
    """
    paths = [*tree.top.rglob("*.py"), tree.top / "pyproject.toml"]
    sources = {str(path.relative_to(tree.top)): path.read_text() for path in sorted(paths)}
    digest = hashlib.sha256(json.dumps(sources).encode()).hexdigest()
    stamp = KEPT / "digest"
    if not stamp.exists() or stamp.read_text() != digest:
        _measure(tree)
        stamp.write_text(digest)
    imports = {
        name: text for name, text in sources.items() if name.startswith((*PACKAGES, "tests"))
    }
    return Reach(
        seconds=json.loads((KEPT / "seconds").read_text()),
        contexts=read_contexts(KEPT / "coverage", Path((KEPT / "top").read_text())),
        imported_by=imported_by(imports),
        started_by=started_by(imports),
    )


def _measure(tree: Tree) -> None:
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    spread = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "loadfile", "--no-loadscope-reorder")
    coverage = ("--cov", "--cov-report=", "--cov-context=test", "--timeout=1200")
    seconds = KEPT / "seconds"
    tree.pytest(("tests", *spread, *coverage), {selection.SECONDS: str(seconds)})
    if not seconds.exists():
        raise MeasureError(f"pytest did not run in {tree.top}: does `tools/test unit` work?")
    shutil.copy(tree.top / "build" / "coverage", KEPT / "coverage")
    (KEPT / "top").write_text(str(tree.top))
