"""Which unit tests execute a line: measured once by coverage, which records the test at each line.

A line in a function is executed by the tests that call it. A line that is executed when its module
is imported, a constant for example, has its effect later: it is reached by the tests that execute
any line of its module or of a module that imports it, and by the test files that import its module.
What a fixture executes is reached by all tests of the file, as they may share it. Coverage does not
see what a process executes that a test starts. So a line that no test is seen to execute is tried
by the test files that start its module by name.
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData


@dataclass(frozen=True)
class Reach:
    """What the unit tests execute.

    `seconds` has the time that each test takes, by its id and in the order of pytest. `contexts`
    has the names that pytest-cov gives to a phase of a test, by path and line. `imported_by` has
    for each path the paths of modules and test files that import it, `started_by` those of test
    files that have the module's name in a string.
    """

    seconds: Mapping[str, float]
    contexts: Mapping[str, Mapping[int, Iterable[str]]]
    imported_by: Mapping[str, Sequence[str]]
    started_by: Mapping[str, Sequence[str]]

    def tests(self, path: str, source: str, line: int) -> list[str]:
        """The tests that reach a line of a file: those of files that take little time first."""
        first, last, in_function = statement(source, line)
        lines = self.contexts.get(path, {})
        if in_function:
            found = {name for number in range(first, last + 1) for name in lines.get(number, ())}
            return self._in_order(found, () if found else self.started_by.get(path, ()))
        found = {name for names in lines.values() for name in names}
        files = set()
        for importer in self.imported_by.get(path, ()):
            if importer.startswith("tests/"):
                files.add(importer)
            else:
                others = self.contexts.get(importer, {}).values()
                found |= {name for names in others for name in names}
        return self._in_order(found, files)

    def _in_order(self, contexts: Iterable[str], files: Iterable[str] = ()) -> list[str]:
        chosen, files = set(), set(files)
        for context in contexts:
            test, _, phase = context.rpartition("|")
            if phase == "run":
                chosen.add(test)
            elif test:
                files.add(test.partition("::")[0])
        tests = [test for test in self.seconds if test in chosen or _file(test) in files]
        sums = dict.fromkeys(map(_file, tests), 0.0)
        for test in tests:
            sums[_file(test)] += self.seconds[test]
        return sorted(tests, key=lambda test: (sums[_file(test)], _file(test)))


def _file(test: str) -> str:
    return test.partition("::")[0]


def statement(source: str, line: int) -> tuple[int, int, bool]:
    """The first and the last line of the statement at a line, and whether it is in a function.

    Of a statement with a block it is the part before the block.
    """
    first = last = line
    in_function = False
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt | ast.ExceptHandler):
            continue
        body = getattr(node, "body", None)
        decorators = getattr(node, "decorator_list", [])
        begin = min([node.lineno, *(each.lineno for each in decorators)])
        end = max(body[0].lineno - 1, node.lineno) if body else node.end_lineno or node.lineno
        # ast.walk comes to the inner ones later.
        if begin <= line <= end:
            first, last = begin, end
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if function and end < line <= (node.end_lineno or end):
            in_function = True
    return first, last, in_function


def imported_by(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """For each file of the package the files among these that import it, by their paths."""
    return _by_module(sources, _imports)


def started_by(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """For each file of the package the test files among these that start it as a process."""
    return _by_module(sources, _texts)


def _by_module(
    sources: Mapping[str, str], names_in: Callable[[str], set[str]]
) -> dict[str, list[str]]:
    modules = {"ovs_metadata." + _module(path): path for path in sources}
    found: dict[str, list[str]] = {}
    for path, source in sources.items():
        for name in sorted(names_in(source) & modules.keys()):
            found.setdefault(modules[name], []).append(path)
    return found


def _module(path: str) -> str:
    return (
        re.sub(r"(/__init__)?\.py$", "", path).removeprefix("src/ovs_metadata/").replace("/", ".")
    )


def _imports(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _texts(source: str) -> set[str]:
    constants = (each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Constant))
    return {each.value for each in constants if isinstance(each.value, str)}


def read_contexts(data: Path, top: Path) -> dict[str, dict[int, list[str]]]:
    """What coverage has measured in the tree below `top`."""
    coverage = CoverageData(str(data))
    coverage.read()
    return {
        str(Path(name).relative_to(top)): coverage.contexts_by_lineno(name)
        for name in coverage.measured_files()
    }
