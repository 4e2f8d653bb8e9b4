"""Mutants of this tree: cosmic-ray makes them, some places are left out, chance chooses.

A mutant that no program can tell from the code says nothing about tests. Such mutants cannot be
recognized in general, so these rules leave out whole kinds of places:

- annotations, the block of `if TYPE_CHECKING`, and decorators that only a type checker or an
  abstract class needs: the program does not use them;
- the arguments of `@dataclass` but `order` and `eq`: they make a value safe or small;
- what is logged, and the text of an exception: people read it;
- `if __name__ == "__main__"`: a test imports the module;
- `is` against `==`: both give the same for None, a truth value and an enumeration's member;
- chosen figures: a constant of a module with such a name (`MAX_…`, `…_TIMEOUT`), and numbers with
  a decimal point in other constants. A test of 10 s against 11 s would repeat the code. The numbers
  of a protocol are facts, and mutants of them are made.
"""

import ast
import contextlib
import difflib
import random
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

with contextlib.suppress(ImportError):  # only `make mutants` installs it
    from cosmic_ray.commands.init import init
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator
    from cosmic_ray.work_db import WorkDB, use_db

Position = tuple[int, int]
"""A line, counted from 1, and a column, counted from 0."""
Span = tuple[Position, Position]

_FOR_READERS = {"abstractmethod", "final", "overload", "override", "runtime_checkable"}
_LOGGING = {"critical", "debug", "error", "exception", "info", "log", "warning"}
_SAME = {"Is_Eq", "Eq_Is", "IsNot_NotEq", "NotEq_IsNot"}
_CHOSEN = re.compile(
    r"_?MAX_|.*(LIMIT|TIMEOUT|DELAY|INTERVAL|PAUSE|AFTER|SECONDS?|ONCE|ATTEMPTS|BACKLOG|BATCH|BUFFER)$"
)
"""Names of chosen figures."""


@dataclass(frozen=True)
class Mutant:
    """A file with one change: its path below the tree, the changed line, and its text."""

    path: Path
    line: int
    original: str
    text: str

    def difference(self) -> str:
        """The change, as diff(1) prints it."""
        before, after = self.original.splitlines(), self.text.splitlines()
        return "\n".join(difflib.unified_diff(before, after, str(self.path), "mutant", lineterm=""))


def left_out(source: str) -> list[Span]:
    """Places in which no mutants are made."""
    tree = ast.parse(source)
    found = [span for node in tree.body for span in _chosen_figures(node)]
    for node in ast.walk(tree):
        found += _of_readers(node)
        found += _of_people(node)
        if isinstance(node, ast.If) and _names(node.test) & {"TYPE_CHECKING", "__name__"}:
            found.append(_span(node))
    return found


def is_left_out(operator: str, start: Position, spans: Sequence[Span]) -> bool:
    """Whether a mutant by this operator of cosmic-ray, which begins here, is left out."""
    if operator.rpartition("Operator_")[2] in _SAME:
        return True
    return any(begin <= start < end for begin, end in spans)


def is_python(text: str) -> bool:
    """Whether it can be compiled: some signs of arithmetic mark arguments, too (`**`)."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _of_readers(node: ast.AST) -> Iterator[Span]:
    """Annotations, and decorators that have no effect on a program that is right."""
    for name in ("annotation", "returns"):
        part = getattr(node, name, None)
        if isinstance(part, ast.expr):
            yield _span(part)
    for decorator in getattr(node, "decorator_list", []):
        if _names(decorator) & _FOR_READERS:
            # cosmic-ray counts a decorator from its @.
            begin, end = _span(decorator)
            yield (begin[0], 0), end
        if isinstance(decorator, ast.Call) and _names(decorator.func) & {"dataclass"}:
            for keyword in decorator.keywords:
                if keyword.arg not in {"order", "eq"}:
                    yield _span(keyword.value)


def _of_people(node: ast.AST) -> Iterator[Span]:
    """What is logged, and the texts of exceptions."""
    if isinstance(node, ast.Call) and _logs(node.func):
        yield from map(_span, node.args)
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        texts = (each for each in node.exc.args if _is_text(each))
        yield from map(_span, texts)


def _logs(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr in _LOGGING
        and bool(_names(function.value) & {"LOG", "log", "logging"})
    )


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left)
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _chosen_figures(node: ast.stmt) -> Iterator[Span]:
    """Numbers in the constants of a module that are one choice of many."""
    if isinstance(node, ast.Assign):
        target, value = node.targets[0], node.value
    elif isinstance(node, ast.AnnAssign) and node.value:
        target, value = node.target, node.value
    else:
        return
    if isinstance(target, ast.Name) and _CHOSEN.match(target.id):
        yield _span(value)
    for each in ast.walk(value):
        if isinstance(each, ast.Constant) and isinstance(each.value, float):
            yield _span(each)


def _names(node: ast.AST) -> set[str]:
    """All names in an expression."""
    walked = list(ast.walk(node))
    attributes = {each.attr for each in walked if isinstance(each, ast.Attribute)}
    return attributes | {each.id for each in walked if isinstance(each, ast.Name)}


def _span(node: ast.expr | ast.stmt) -> Span:
    end = (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
    return (node.lineno, node.col_offset), end


def draw(files: Sequence[Path], chance: random.Random) -> Iterator[Mutant]:
    """Mutants without end. A long file has more than a short one, each place in it equally many."""
    sources = {path: path.read_text() for path in files}
    weights = [source.count("\n") for source in sources.values()]
    places: dict[Path, dict[Span, list[Any]]] = {}
    while True:
        (path,) = chance.choices(files, weights)
        if path not in places:
            places[path] = _places(path, sources[path])
        if not places[path]:
            continue
        place = chance.choice(sorted(places[path]))
        made = chance.choice(places[path][place])
        operator = get_operator(made.operator_name)()
        text = mutate_code(sources[path], operator, made.occurrence)
        if text is not None and is_python(text):
            yield Mutant(path, place[0][0], sources[path], text)


def _places(path: Path, source: str) -> dict[Span, list[Any]]:
    """The mutants of a file, as cosmic-ray describes them, by their places."""
    spans = left_out(source)
    with (
        tempfile.TemporaryDirectory() as directory,
        use_db(f"{directory}/db", WorkDB.Mode.create) as database,
    ):
        init([path], database, {})
        made = [item.mutations[0] for item in database.work_items]
    made.sort(key=lambda each: (each.operator_name, each.occurrence))
    places = defaultdict(list)
    for each in made:
        start, end = tuple(each.start_pos), tuple(each.end_pos)
        if not is_left_out(each.operator_name, start, spans):
            places[start, end].append(each)
    return dict(places)
