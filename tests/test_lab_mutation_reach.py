"""Which tests a mutant is tried by."""

from collections.abc import Mapping, Sequence

import pytest

from lab.mutation.reach import Reach, imported_by, started_by, statement

SOURCE = """\
LIMIT = 3

@decorated(
    LIMIT
)
def f(
    a=1,
):
    b = g(
        a,
        2,
    )
    if b:
        return 1
    elif (
        a
    ):
        return 2
    try:
        g()
    except OSError:
        return 3


class C:
    x = 1

    async def m(self):
        pass
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (1, (1, 1, False)),
        (4, (3, 8, False)),  # a decorator and a default belong to the definition
        (7, (3, 8, False)),
        (11, (9, 12, True)),  # a call of several lines is one statement
        (13, (13, 13, True)),
        (14, (14, 14, True)),
        (16, (15, 17, True)),
        (21, (21, 21, True)),  # a handler is reached if its exception comes
        (22, (22, 22, True)),
        (26, (26, 26, False)),
        (28, (28, 28, False)),
        (29, (29, 29, True)),
    ],
)
def test_a_line_belongs_to_the_statement_around_it(
    line: int, expected: tuple[int, int, bool]
) -> None:
    assert statement(SOURCE, line) == expected


def reach(
    contexts: Mapping[str, Mapping[int, Sequence[str]]],
    imports: Mapping[str, Sequence[str]] | None = None,
) -> Reach:
    seconds = {
        "tests/test_slow.py::test_one": 5.0,
        "tests/test_slow.py::test_two[a|b::c]": 0.1,
        "tests/test_fast.py::test_one": 0.2,
        "tests/test_fast.py::test_two": 0.2,
        "tests/test_middle.py::test_one": 1.0,
    }
    return Reach(seconds, contexts, imports or {}, {"proxy/main.py": ["tests/test_fast.py"]})


def test_a_line_of_a_function_is_tried_by_the_tests_that_execute_it_the_fast_ones_first() -> None:
    contexts = {
        "flows/diff.py": {
            1: [""],
            10: ["tests/test_slow.py::test_two[a|b::c]|run"],
            11: ["tests/test_middle.py::test_one|run", "tests/test_slow.py::test_one|run"],
            13: ["tests/test_fast.py::test_one|run"],
        }
    }
    assert reach(contexts).tests("flows/diff.py", SOURCE, 9) == [
        "tests/test_middle.py::test_one",
        "tests/test_slow.py::test_one",
        "tests/test_slow.py::test_two[a|b::c]",
    ]


def test_what_a_fixture_executes_is_tried_by_all_tests_of_its_file() -> None:
    contexts = {"flows/diff.py": {22: ["tests/test_fast.py::test_one|setup"]}}
    assert reach(contexts).tests("flows/diff.py", SOURCE, 22) == [
        "tests/test_fast.py::test_one",
        "tests/test_fast.py::test_two",
    ]


def test_a_line_that_no_test_executes_is_tried_by_none() -> None:
    assert reach({"flows/diff.py": {9: [""]}}).tests("flows/diff.py", SOURCE, 9) == []
    assert reach({}).tests("flows/diff.py", SOURCE, 1) == []


def test_a_line_that_only_a_process_executes_is_tried_by_those_who_start_it() -> None:
    fast = ["tests/test_fast.py::test_one", "tests/test_fast.py::test_two"]
    assert reach({}).tests("proxy/main.py", SOURCE, 9) == fast
    seen = {"proxy/main.py": {9: ["tests/test_middle.py::test_one|run"]}}
    assert reach(seen).tests("proxy/main.py", SOURCE, 9) == ["tests/test_middle.py::test_one"]


def test_who_starts_a_module_has_its_name_in_a_string() -> None:
    sources = {
        "proxy/main.py": "",
        "tests/test_a.py": '"""Starts ovs_metadata.proxy.main."""\n',
        "tests/test_b.py": 'COMMAND = ("-m", "ovs_metadata.proxy.main")\n',
    }
    assert started_by(sources) == {"proxy/main.py": ["tests/test_b.py"]}


def test_a_constant_is_tried_by_the_tests_of_its_module_and_of_those_that_import_it() -> None:
    contexts = {
        "flows/diff.py": {20: ["tests/test_middle.py::test_one|run"]},
        "flows/app.py": {3: ["tests/test_slow.py::test_one|run"]},
        "flows/other.py": {3: ["tests/test_slow.py::test_two[a|b::c]|run"]},
    }
    imports = {"flows/diff.py": ["flows/app.py", "tests/test_fast.py"]}
    assert reach(contexts, imports).tests("flows/diff.py", SOURCE, 1) == [
        "tests/test_fast.py::test_one",
        "tests/test_fast.py::test_two",
        "tests/test_middle.py::test_one",
        "tests/test_slow.py::test_one",
    ]


def test_who_imports_a_module_is_read_from_its_imports() -> None:
    sources = {
        "flows/diff.py": "",
        "flows/app.py": "from ovs_metadata.flows.diff import diff\n",
        "store/__init__.py": "",
        "tests/test_a.py": "import ovs_metadata.flows.diff\n",
        "tests/test_b.py": "def f():\n    from ovs_metadata.flows import diff, app\n",
        "tests/test_c.py": "from ovs_metadata import store\n# ovs_metadata.flows.diff\n",
        "tests/test_d.py": "from ovs_metadata.flows.different import other\n",
    }
    assert imported_by(sources) == {
        "flows/diff.py": ["flows/app.py", "tests/test_a.py", "tests/test_b.py"],
        "flows/app.py": ["tests/test_b.py"],
        "store/__init__.py": ["tests/test_c.py"],
    }
