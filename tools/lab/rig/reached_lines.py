"""Which lines of the product the tests reach, for some percent of their time.

Until Python 3.12, a tracer stops the interpreter at each line of all that runs, which takes longer
than the unit tests themselves. So each statement of the product's modules sets a byte of its file's
array before it is executed: the modules are compiled from syntax trees that contain such
assignments. Each process writes a data file of coverage.py (PATH.PID), whose reports
lab.coverage_report uses.

A property (hypothesis), or a test marked `exhaustive`, does not count: it may reach a line by
chance.

Processes that tests start are not measured.
"""

import ast
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import pytest
from coverage import CoverageData

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = ("agent", "cli", "flows", "host", "proxy", "publisher", "store")

_ARRAY = "@reached"
"""The global variable of a module that has the array. No identifier is spelled like that."""

_arrays: dict[str, bytearray] = {}
"""By the path of a file: a byte for each line, 1 if the line was reached."""


def with_probes(source: bytes, path: str) -> ast.Module:
    """The syntax tree of a module, each statement of it behind an assignment to the array."""
    tree = ast.parse(source, path)
    for node in list(ast.walk(tree)):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, list(_probed(block)))
        if isinstance(node, ast.ExceptHandler):
            node.body.insert(0, _probe(node.lineno, node.body[0]))
        elif isinstance(node, ast.match_case):
            node.body.insert(0, _probe(node.pattern.lineno, node.body[0]))
    return tree


def _probed(block: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for at, statement in enumerate(block):
        match statement:
            case ast.Expr(ast.Constant(str())) if at == 0:
                pass  # a docstring is one only if nothing precedes it
            case ast.ImportFrom(module="__future__"):
                yield statement  # so is this
                yield _probe(statement.lineno, statement)
                continue
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                for decorator in statement.decorator_list:
                    yield _probe(decorator.lineno, statement)
                yield _probe(statement.lineno, statement)
            case _:
                yield _probe(statement.lineno, statement)
        yield statement


def _probe(line: int, before: ast.stmt) -> ast.stmt:
    array = ast.Name(_ARRAY, ast.Load())
    place = ast.Subscript(array, ast.Constant(line), ast.Store())
    probe = ast.copy_location(ast.Assign([place], ast.Constant(1)), before)
    return ast.fix_missing_locations(probe)


class Loader(SourceFileLoader):
    """Loads a module with probes."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile it; the byte code that is kept has no probes."""
        path = self.get_filename(fullname)
        source = self.get_data(path)
        # A test may import a module again.
        _arrays.setdefault(os.path.realpath(path), bytearray(source.count(b"\n") + 2))
        code: CodeType = compile(with_probes(source, path), path, "exec", dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Execute it where its probes find the array."""
        code = self.get_code(module.__name__)
        module.__dict__[_ARRAY] = _arrays[os.path.realpath(self.path)]
        exec(code, module.__dict__)  # noqa: S102 - this is what a loader does


class Finder:
    """Finds the product's modules, for `Loader`."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module below one of the directories of the product."""
        if not name.startswith("ovs_metadata."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        file = os.path.realpath(spec.loader.path)
        if not file.startswith(tuple(f"{ROOT}/{directory}/" for directory in PRODUCT)):
            return None
        spec.loader = Loader(name, spec.loader.path)
        return spec


class Measurement:
    """A plugin of pytest: what is imported while there is one has probes."""

    def __init__(self, data: Path) -> None:
        self._data = data.absolute()
        sys.meta_path.insert(0, Finder)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Take back what a property reaches."""
        chance = item.get_closest_marker("hypothesis") or item.get_closest_marker("exhaustive")
        before = {path: bytes(array) for path, array in _arrays.items()} if chance else {}
        try:
            return (yield)
        finally:
            for path, array in before.items():
                _arrays[path][:] = array

    def pytest_sessionfinish(self) -> None:
        """Write the numbers of the lines that were reached."""
        data = CoverageData(str(self._data), suffix=str(os.getpid()))
        data.add_lines({path: _numbers(array) for path, array in _arrays.items()})
        data.write()


def _numbers(array: bytearray) -> list[int]:
    return [number for number, reached in enumerate(array) if reached]
