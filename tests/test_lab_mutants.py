"""Which mutants are made, which tests run against them, and the report."""

from lab.mutants import Outcome, annotations, importers, report

TESTS = [
    ("test_a.py", "from ovs_metadata.flows.diff import diff\n"),
    ("test_b.py", "import os\n\nfrom ovs_metadata.flows import diff, switch\n"),
    ("test_c.py", "from ovs_metadata.flows import openflow\n# ovs_metadata.flows.diff\n"),
    ("test_d.py", "from ovs_metadata.flows.different import other\n"),
    ("test_e.py", "import ovs_metadata.flows.diff\n"),
]


def test_a_module_is_first_tried_by_those_who_import_it() -> None:
    assert importers("ovs_metadata.flows.diff", TESTS) == ["test_a.py", "test_b.py", "test_e.py"]
    assert importers("ovs_metadata.flows.switch", TESTS) == ["test_b.py"]
    assert importers("ovs_metadata.flows.nothing", TESTS) == []


def test_annotations_are_not_mutated() -> None:
    source = "def f(a: int | None = 1 | 2) -> int | str:\n    b: int | None = a | 4\n"
    lines = source.splitlines()
    spans = annotations(source)
    texts = {lines[begin[0] - 1][begin[1] : end[1]] for begin, end in spans}
    assert texts == {"int | None", "int | str"}
    assert len(spans) == 3


def test_it_says_how_many_were_noticed_in_each_package_and_in_all() -> None:
    outcomes = [
        Outcome("agent/workers.py", True, ""),
        Outcome("agent/agent.py", False, "-a\n+b"),
        Outcome("store/store.py", True, ""),
    ]
    assert report(outcomes) == [
        "   50 % of    2 noticed  agent",
        "  100 % of    1 noticed  store",
        "   67 % of    3 noticed  all",
    ]
    assert report([]) == []
