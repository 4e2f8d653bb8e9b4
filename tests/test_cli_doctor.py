"""What `ovs-metadata doctor` prints for people: on a screen of 80 columns, and into a pipe."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ovs_metadata.cli.doctor import printed as doctor
from ovs_metadata.cli.doctor.advice import Advice, Shell, set_value, vsctl
from ovs_metadata.cli.doctor.hops import FAULTS
from ovs_metadata.cli.doctor.printed import SCREEN, _print
from ovs_metadata.cli.doctor.report import Diagnosis, Fault, Finding, HopName, HopReport
from ovs_metadata.cli.main import main
from ovs_metadata.host.config import load

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


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_finding_fits_on_a_screen_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, [fault])
    assert len(lines) <= SCREEN < 24
    assert max(map(len, lines)) <= 80
    words = " ".join(" ".join(lines).split())
    for text in (fault.name, fault.what, f"to do: {fault.remedy}"):
        assert text in words


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_mark_and_name_of_each_hop_are_whole_however_narrow_the_screen_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = printed(capsys, FAULTS)
    for hop in HopName:
        assert sum(line.startswith(f"✗  {hop.value}") for line in lines) == 1


def test_each_finding_has_a_line_at_least_where_there_is_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    faults = list(FAULTS)[:4]
    lines = printed(capsys, faults)
    assert len(lines) <= SCREEN
    assert [sum(f"{each.severity.word}: {each.name}" in line for line in lines) for each in faults]
    assert f"  to do: {faults[0].remedy}"[:70] in " ".join(lines)


def test_what_does_not_fit_is_counted_and_the_first_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, FAULTS)
    assert len(lines) <= SCREEN
    named = sum(line.startswith(("error: ", "warning: ", "note: ")) for line in lines)
    assert lines[-1] == f"and {len(FAULTS) - named} more: --format json has all of them"
    assert sum(line.lstrip().startswith("to do:") for line in lines) == 1


def test_commands_stay_whole_and_lead_to_what_the_configuration_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    key = "agent.openstack.metadata.enabled"
    advice = Advice("Enable it.", (set_value("host compute-1", key, "true"), vsctl("show")))
    finding = Finding(FAULTS[0], WHY, advice=advice)
    config = replace(load(), path=Path("/etc/other.conf"), ovsdb_connection="tcp:127.0.0.1:6640")
    hops = (HopReport(HopName.CONFIGURATION, (finding,)),)
    _print(Diagnosis("compute-1", "", hops, Shell(config, "directory:/s")))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "    mn-conf --config /etc/other.conf --store directory:/s set -h compute-1 "
        f"'{key} : true'",
        "    ovs-vsctl --db=tcp:127.0.0.1:6640 show",
    ]


def test_whole_lines_without_trailing_blanks_go_into_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    fault = by_length()[0]
    lines = printed(capsys, [fault])
    assert lines == [line.rstrip() for line in lines]
    assert f"  to do: {fault.remedy}" in lines
    assert max(map(len, lines)) < 400


def test_findings_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding(FAULTS[0], WHY, PORT, advice=Advice("Do it.", (vsctl("show"),)))
    found = Diagnosis("compute-1", "", (HopReport(FAULTS[0].hop, (finding,)),))
    monkeypatch.setattr(doctor, "diagnose", lambda *_: found)
    monkeypatch.setattr("os.geteuid", lambda: 0)

    def printed_as(*options: str) -> str:
        return CliRunner().invoke(main, ["doctor", *options], catch_exceptions=False).stdout

    columns = ("-c", "severity", "-c", "finding", "-c", "commands")
    assert printed_as("-f", "value", *columns) == f"error {FAULTS[0].name} ovs-vsctl show\n"
    assert "to do" in printed_as("-f", "csv").splitlines()[0]
