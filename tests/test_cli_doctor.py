"""What `ovs-metadata doctor` prints for people: on a screen of 80 columns, and into a pipe."""

from collections.abc import Sequence

import pytest

from ovs_metadata.cli.doctor.command import SCREEN, _print
from ovs_metadata.cli.doctor.hops import FAULTS
from ovs_metadata.cli.doctor.report import Diagnosis, Fault, Finding, HopName, HopReport

PORT = "40ab441b-c21d-4c9c-b0af-6a8fc48ab733"
WHY = "the interface, or whatever else this is about, is not as it should be"


def printed(capsys: pytest.CaptureFixture[str], faults: Sequence[Fault]) -> list[str]:
    """The lines for these faults, of a port whose hops have much to tell."""
    found = {
        hop: tuple(Finding(each, WHY, PORT) for each in faults if each.hop is hop)
        for hop in HopName
    }
    seen = f"instance {PORT}, tap40ab441b-c2, ofport 12; and much more besides"
    hops = tuple(HopReport(hop, found[hop], seen) for hop in HopName)
    _print(Diagnosis("compute-1", PORT, hops))
    return capsys.readouterr().out.splitlines()


def by_length() -> list[Fault]:
    return sorted(FAULTS, key=lambda fault: -len(fault.what + fault.remedy))


@pytest.mark.parametrize("first", range(0, len(FAULTS), 3))
def test_three_findings_fit_on_a_screen_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Those that take most room together."""
    monkeypatch.setenv("COLUMNS", "80")
    faults = by_length()[first : first + 3]
    lines = printed(capsys, faults)
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 80
    words = " ".join(" ".join(lines).split())
    for fault in faults:
        for text in (fault.name, fault.what, f"to do: {fault.remedy}"):
            assert text in words


def test_findings_that_do_not_fit_are_counted_and_the_first_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, FAULTS)
    assert len(lines) <= SCREEN
    reported = sum(line.lstrip().startswith("to do:") for line in lines)
    assert lines[-1] == f"and {len(FAULTS) - reported} more: --format json has all of them"
    monkeypatch.setenv("COLUMNS", "20")
    assert sum(line.lstrip().startswith("to do:") for line in printed(capsys, FAULTS)) == 1


def test_whole_lines_without_trailing_blanks_go_into_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    fault = by_length()[0]
    lines = printed(capsys, [fault])
    assert lines == [line.rstrip() for line in lines]
    assert f"  to do: {fault.remedy}" in lines
    assert max(map(len, lines)) < 400
