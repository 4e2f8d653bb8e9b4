"""What is shipped for Prometheus and Grafana uses metrics that there are, in queries that parse."""

import itertools
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from docs.monitoring import ALERTS, ALERTS_TEST, DASHBOARD, dashboard_queries, panels
from ovs_metadata.agent.admin.metrics import make_registry
from ovs_metadata.agent.admin.statistics import HostStatistics, WorkerState
from ovs_metadata.agent.admin.status import HostStatus
from ovs_metadata.agent.certificates import Certificate
from ovs_metadata.agent.child_process import Child
from ovs_metadata.agent.health import AgentView
from ovs_metadata.flows.controller_report import ControllerReport
from ovs_metadata.proxy.accounting.report import CAUSES, REFUSALS
from ovs_metadata.proxy.nova.health import EndpointHealth
from ovs_metadata.store.reconciliation import ACTIONS, ReconciliationReport

DOC = Path(__file__).parents[1] / "docs" / "status.md"

VIEW = AgentView(
    certificates=(Certificate("nova_ca", "/ca.pem", 2000.0),),
    generation_wanted="0123",
    enabled=True,
    generation="0123",
    children=(Child("flow controller", os.getpid(), running=True),),
    serves={4: True},
    store_disconnected=0.0,
    reconciliation=ReconciliationReport("ctl-1", 1000.0, 2.0, 300.0),
)

OF_PROMETHEUS = {"up"}
"""Metrics that Prometheus makes itself."""

_METRIC = re.compile(r"\b(?:ovs_metadata|process)_\w+\b|\bup\b")
_SELECTOR = re.compile(r"\b((?:ovs_metadata|process)_\w+){([^}]*)}")
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


def there() -> dict[str, set[str]]:
    """The name of each sample that an agent can show, and its labels."""
    statistics = HostStatistics()
    endpoint = EndpointHealth("http://nova", healthy=True, since=5.0, last_error="")
    statistics.controller = ControllerReport()
    statistics.workers[0] = WorkerState(1, (endpoint,))
    text = generate_latest(
        make_registry(statistics, HostStatus(statistics, lambda: VIEW).view)
    ).decode()
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def alert_queries() -> list[str]:
    """The expressions of the rules, each on a line of its own or folded."""
    text = ALERTS.read_text()
    found = re.findall(r"^ +expr: (?:>-\n)?((?:.|\n)*?)\n +(?:for|labels):", text, re.MULTILINE)
    assert len(found) == text.count("- alert:")
    return [" ".join(each.split()) for each in found]


@pytest.mark.parametrize("query", [*alert_queries(), *dashboard_queries()])
def test_every_metric_and_label_there_is(query: str) -> None:
    metrics = there()
    names = _METRIC.findall(query)
    assert names
    assert set(names) <= metrics.keys() | OF_PROMETHEUS
    known = {
        "cause": CAUSES | REFUSALS,
        "state": {"served", "pending", "refused", "wanted", "missing", "unexpected"},
        "action": set(ACTIONS),
    }
    for name, matchers in _SELECTOR.findall(query):
        for label, operator, value in _MATCHER.findall(matchers):
            assert label in metrics[name] | {"job", "instance"}
            if label in known:
                values = value.split("|") if "~" in operator else [value]
                assert set(values) <= known[label]


def test_every_alert_is_seen_to_fire_and_seen_to_stay_silent() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    tests = ALERTS_TEST.read_text()
    samples = re.findall(r"labels: 'ALERTS{alertname=\"(\w+)\", alertstate=\"firing\"", tests)
    fires = {*samples, *re.findall(r"alertname: (\w+)\n +exp_alerts:", tests)}
    assert fires == alerts
    assert set(re.findall(r"eval_time: 40m, alertname: (\w+) }", tests)) == alerts


def test_every_alert_leads_to_its_line_in_the_documentation() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    runbooks = re.findall(r"runbook_url: \S+/status\.html#(\w+)$", ALERTS.read_text(), re.MULTILINE)
    assert runbooks == alerts
    anchors = re.findall(r'<a id="(\w+)"></a>`(\w+)`', DOC.read_text())
    assert sorted(anchors) == sorted((name, name) for name in alerts)


def test_what_the_agent_does_not_know_has_no_sample() -> None:
    text = generate_latest(make_registry(HostStatistics(), AgentView)).decode()
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    unknown = ("enabled", "flow_controller_up", "store_disconnected", "configuration_info")
    assert not [
        line
        for line in samples
        if line.startswith(tuple(f"ovs_metadata_{each}" for each in unknown))
    ]


@pytest.mark.parametrize(
    ("applied", "wanted", "shown"),
    [
        ("", "", set()),
        ("0123", "0123", {("configuration", "0123"), ("configuration_wanted", "0123")}),
        ("0123", "4567", {("configuration", "0123"), ("configuration_wanted", "4567")}),
        ("", "4567", {("configuration_wanted", "4567")}),
    ],
)
def test_the_configuration_that_is_wanted_is_beside_the_applied_one(
    applied: str, wanted: str, shown: set[tuple[str, str]]
) -> None:
    view = replace(VIEW, generation=applied, generation_wanted=wanted)
    text = generate_latest(make_registry(HostStatistics(), lambda: view)).decode()
    found = re.findall(r'^ovs_metadata_(configuration\w*)_info{generation="(\w+)"} 1', text, re.M)
    assert set(found) == shown


def test_a_flow_controller_that_hangs_is_down() -> None:
    hanging = Child("flow controller", 1, running=True, hangs=True)
    assert replace(VIEW, children=(hanging,)).flow_controller_up is False
    assert VIEW.flow_controller_up is True
    assert replace(VIEW, children=()).flow_controller_up is None


def test_the_dashboard_shows_every_metric_there_is() -> None:
    shown = {name for query in dashboard_queries() for name in _METRIC.findall(query)}
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in there()}
    wanted = {name for name in bases if name.startswith("ovs_metadata_")}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} >= wanted


def test_panels_neither_overlap_nor_leave_the_grid() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_panels_say_what_they_show_and_ask_the_chosen_prometheus() -> None:
    assert DASHBOARD["uid"]
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job", "instance"}
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "${datasource}"
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))


def test_every_alert_is_documented_with_its_severity() -> None:
    rules = re.findall(r"- alert: (\w+)\n(?:.|\n)*?severity: (\w+)", ALERTS.read_text())
    rows = re.findall(
        r"^\| <a id=\"\w+\"></a>`(OvsMetadata\w+)` \| (\w+) \|", DOC.read_text(), re.MULTILINE
    )
    assert sorted(rows) == sorted(rules)
