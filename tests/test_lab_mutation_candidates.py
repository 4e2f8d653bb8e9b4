"""In which places mutants are made, and in which they would say nothing about tests."""

from pathlib import Path

import pytest

from lab.mutation.candidates import Mutant, is_left_out, is_python, left_out


def texts(source: str) -> set[str]:
    lines = source.splitlines()
    return {
        "\n".join([*lines[begin[0] - 1 : end[0] - 1], lines[end[0] - 1][: end[1]]])[begin[1] :]
        for begin, end in left_out(source)
    }


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("def f(a: int | None = 1 | 2) -> int | str: ...", {"int | None", "int | str"}),
        ("b: int | None = a | 4", {"int | None"}),
        ("if TYPE_CHECKING:\n    A = 1", {"if TYPE_CHECKING:\n    A = 1"}),
        ('if __name__ == "__main__":\n    f(1)', {'if __name__ == "__main__":\n    f(1)'}),
        ("if name == 1:\n    f(1)", set()),
        ("class C:\n    @abc.abstractmethod\n    def f(self): ...", {"    @abc.abstractmethod"}),
        ("class C:\n    @property\n    def f(self): ...", set()),
        ("@dataclass(frozen=True, order=True)\nclass C: ...", {"True"}),
        ('LOG.warning("%d ports", 2 * 3)', {'"%d ports"', "2 * 3"}),
        ("self.warning(2 * 3)", set()),
        ('raise ValueError("no " + name, status + 1)', {'"no " + name'}),
        ("raise ValueError(1 + 2)", set()),
        ("RETRY_INTERVAL = 2 * 5\n_MAX_LINE: int = 64 * 1024", {"2 * 5", "int", "64 * 1024"}),
        ("SHARES = (1, 0.5)", {"0.5"}),
        ("ETH_ARP = 0x0806\nCOLOURS = 16", set()),
        ("def f():\n    MAX_LINE = 3", set()),
    ],
)
def test_places_whose_mutants_no_test_should_notice(source: str, left: set[str]) -> None:
    assert texts(source) == left


def test_a_place_is_left_out_from_its_first_column_to_its_last() -> None:
    assert is_left_out("core/NumberReplacer", (1, 4), [((1, 2), (1, 9))])
    assert is_left_out("core/NumberReplacer", (1, 2), [((1, 2), (1, 9))])
    assert not is_left_out("core/NumberReplacer", (1, 9), [((1, 2), (1, 9))])
    assert not is_left_out("core/NumberReplacer", (2, 4), [((1, 2), (1, 9))])


def test_identity_and_equality_are_not_exchanged() -> None:
    name = "core/ReplaceComparisonOperator_"
    assert is_left_out(name + "Is_Eq", (1, 0), [])
    assert is_left_out(name + "NotEq_IsNot", (1, 0), [])
    assert not is_left_out(name + "Is_IsNot", (1, 0), [])
    assert not is_left_out(name + "Eq_Lt", (1, 0), [])


def test_what_cannot_be_compiled_is_no_mutant() -> None:
    assert is_python("f(**options)\n")
    assert not is_python("f(>>options)\n")


def test_a_mutant_shows_its_change() -> None:
    mutant = Mutant(Path("host/join.py"), 2, "a = 1\nb = 2\n", "a = 1\nb = 3\n")
    lines = mutant.difference().splitlines()
    assert lines[0] == "--- host/join.py"
    assert lines[3:] == [" a = 1", "-b = 2", "+b = 3"]
