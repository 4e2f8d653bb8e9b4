"""Lines that the unit tests reach, by package, and where they are too few."""

import pytest

from lab.coverage_report import FLOOR, Reached, by_package, report

FILES = {
    "agent/workers.py": Reached(100, 80),
    "agent/admin/server.py": Reached(100, 100),
    "agent/network/device.py": Reached(50, 40),
    "store/store.py": Reached(100, FLOOR),
    "flows/app.py": Reached(100, FLOOR - 1),
    "flows/diff.py": Reached(20, 19),
}


def test_a_package_is_the_sum_of_its_files() -> None:
    assert by_package(FILES) == {
        "agent": Reached(250, 220),
        "store": Reached(100, FLOOR),
        "flows": Reached(120, FLOOR + 18),
    }


def test_every_package_at_the_floor_is_enough() -> None:
    lines, enough = report(FILES)
    assert enough
    assert lines == [
        " 88.0 % of   250 lines  agent",
        " 85.8 % of   120 lines  flows",
        " 85.0 % of   100 lines  store",
    ]


def test_a_package_below_it_is_not_and_the_files_that_lack_most_are_listed() -> None:
    lines, enough = report(FILES | {"flows/trace.py": Reached(30, 0)})
    assert not enough
    assert lines[3:] == [
        "flows is below 85 %:",
        "    0.0 % of    30 lines  flows/trace.py",
        "   84.0 % of   100 lines  flows/app.py",
        "   95.0 % of    20 lines  flows/diff.py",
    ]


def test_nothing_measured_is_not_enough() -> None:
    with pytest.raises(SystemExit, match="nothing was measured"):
        report({})
