"""Neutron's reconciliation, as the agent follows it and as everything shows it."""

import logging
from dataclasses import replace

import pytest
from prometheus_client import generate_latest

from lab.rig.process import wait_for
from ovs_metadata.agent.admin.metrics import make_registry
from ovs_metadata.agent.admin.page import render
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.admin.status import HostStatus
from ovs_metadata.agent.health import AgentView, ProblemLevel, health
from ovs_metadata.agent.reconciliation import ReconciliationFollower
from ovs_metadata.store.documents import replace as write
from ovs_metadata.store.layout import RECONCILIATION
from ovs_metadata.store.reconciliation import NEVER, ReconciliationReport
from ovs_metadata.store.store import Store

REPORT = ReconciliationReport(
    "ctl-1", 1000.0, 1.5, 300.0, {"right": 7, "added": 2, "updated": 1}, {"removed": 1}
)


def report(store: Store, data: bytes) -> None:
    write(store, RECONCILIATION, lambda _before: data)


def test_the_agent_follows_what_neutron_reports(store: Store) -> None:
    follower = ReconciliationFollower(store)
    wait_for(lambda: follower.report == NEVER, "no report, as beside an earlier plugin")
    report(store, REPORT.to_json())
    wait_for(lambda: follower.report == REPORT, "the report")
    follower.close()


@pytest.mark.parametrize("data", [b"", b'{"time": "' + b"x" * 60_000 + b'"}', b"[" * 60_000])
def test_a_hostile_report_is_ignored_with_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    report(store, REPORT.to_json())
    follower = ReconciliationFollower(store)
    wait_for(lambda: follower.report == REPORT, "the report")
    report(store, data)
    wait_for(lambda: "ignoring Neutron's report" in caplog.text, "the warning")
    (line,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(line.getMessage()) < 200
    assert follower.report == REPORT
    later = replace(REPORT, time=2000.0)
    report(store, later.to_json())
    wait_for(lambda: follower.report == later, "the next report")
    follower.close()


def metrics(view: AgentView) -> dict[str, str]:
    text = generate_latest(make_registry(HostStatistics(), lambda: view)).decode()
    lines = (line.rpartition(" ") for line in text.splitlines())
    name = "ovs_metadata_reconciliation_"
    return {
        key.removeprefix(name): value
        for key, _, value in lines
        if key.startswith(name) and not key.startswith("#")
    }


def test_metrics_have_what_is_known() -> None:
    found = metrics(AgentView(reconciliation=REPORT))
    assert found["timestamp_seconds"] == "1000.0"
    assert (found["interval_seconds"], found["duration_seconds"]) == ("300.0", "1.5")
    assert found['results{action="added",resource="port"}'] == "2.0"
    assert found['results{action="removed",resource="network"}'] == "1.0"
    assert found['results{action="withheld",resource="port"}'] == "0.0"
    assert metrics(AgentView(reconciliation=NEVER)) == {"timestamp_seconds": "0.0"}
    assert metrics(AgentView()) == {}


LATE, WITHHELD = "reconciliation-late", "removals-withheld"


@pytest.mark.parametrize(
    ("changes", "now", "disconnected", "codes"),
    [
        ({}, 1900.0, 0.0, []),
        ({}, 1901.0, 0.0, [LATE]),
        ({}, 1901.0, 5.0, []),
        ({"time": 0.0}, 1901.0, 0.0, []),
        ({"ports": {"withheld": 9}}, 1000.0, 0.0, [WITHHELD]),
        ({"ports": {"withheld": 9}}, 1901.0, 0.0, [LATE, WITHHELD]),
    ],
)
def test_a_reconciliation_that_is_late_or_needs_an_operator_is_a_warning(
    changes: dict[str, object], now: float, disconnected: float, codes: list[str]
) -> None:
    view = AgentView(
        reconciliation=replace(REPORT, **changes),  # type: ignore[arg-type]
        time=now,
        store_disconnected=disconnected,
    )
    found = health(view)
    assert [each.code for each in found.findings] == codes
    assert all(each.level is ProblemLevel.WARNING for each in found.findings)


def test_the_page_and_the_document_show_it() -> None:
    hostile = replace(REPORT, server="<b>ctl")
    status = HostStatus(HostStatistics(), lambda: AgentView(reconciliation=hostile))
    document = status.document()["reconciliation"]
    assert (document["time"], document["server"]) == ("1970-01-01T00:16:40Z", "<b>ctl")
    assert (document["repaired"], document["ports"]["added"]) == (4, 2)
    text = render(status).decode()
    assert "&lt;b&gt;ctl" in text
    assert '<td class="number">4</td>' in text
    for report, words in ((NEVER, "No server of Neutron has reported one"), (None, "")):
        view = AgentView(reconciliation=report)
        status = HostStatus(HostStatistics(), lambda view=view: view)  # type: ignore[misc]
        assert status.document()["reconciliation"] is None
        text = render(status).decode()
        assert words in text
        assert ("reconciliation-title" in text) == bool(words)
