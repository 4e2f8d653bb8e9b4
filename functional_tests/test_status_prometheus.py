"""Alert rules and dashboard with Prometheus' own programs, beside a real agent."""

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import Factory

from docs.monitoring import ALERTS, ALERTS_TEST, dashboard_queries, filled_in, panels
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, free_port, run, wait_for
from ovs_metadata.agent.admin.metrics import make_registry
from ovs_metadata.agent.admin.statistics import HostStatistics, WorkerState
from ovs_metadata.agent.certificates import Certificate
from ovs_metadata.agent.child_process import Child
from ovs_metadata.agent.health import AgentView
from ovs_metadata.flows.controller_report import ControllerReport
from ovs_metadata.proxy.nova.health import EndpointHealth
from ovs_metadata.store.layout import RECONCILIATION
from ovs_metadata.store.reconciliation import ReconciliationReport

PROMETHEUS = "127.0.0.1:9090"

NEVER_EMPTY = (
    *("ovs_metadata_ready", "ovs_metadata_build_info", "ovs_metadata_workers"),
    *("ovs_metadata_reconciliation_timestamp", "ovs_metadata_reconciliation_results"),
)
"""Metrics of which every query without a condition finds something on any host."""


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_do_what_their_tests_say() -> None:
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", ALERTS_TEST)


def test_prometheus_understands_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": filled_in(query)}
        for number, query in enumerate(dashboard_queries())
    ]
    file = tmp_path / "dashboard.yml"  # JSON is YAML, too
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", file)


def ask(hypervisor: Hypervisor, path: str, **values: str) -> Any:
    """What Prometheus answers, once it does."""
    words = [
        word for name, value in values.items() for word in ("--data-urlencode", f"{name}={value}")
    ]
    output = run(
        *("ip", "netns", "exec", hypervisor.namespace, "curl", "--silent", "--max-time", "5"),
        *("--get", *words),
        f"http://{PROMETHEUS}/api/v1/{path}",
        check=False,
    )
    answer = json.loads(output) if output.startswith("{") else {"status": "none"}
    return answer.get("data") if answer["status"] == "success" else None


@pytest.fixture
def watched(lab_hypervisor: Factory) -> Hypervisor:
    """A hypervisor whose agent a Prometheus scrapes once a second, with our rules."""
    hypervisor = lab_hypervisor()
    report = ReconciliationReport("ctl-1", time.time(), 2.0, 300.0, {"right": 1})
    assert hypervisor.store.write_document(RECONCILIATION, report.to_json(), None)
    hypervisor.start()
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    config = hypervisor.root / "prometheus.yml"
    targets = [{"targets": ["127.0.0.1:9775"], "labels": {"instance": "cn-1"}}]
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(ALERTS)],
                "scrape_configs": [{"job_name": "ovs-metadata", "static_configs": targets}],
            }
        )
    )
    hypervisor.spawn(
        "prometheus",
        *("prometheus", f"--config.file={config}", f"--web.listen-address={PROMETHEUS}"),
        f"--storage.tsdb.path={hypervisor.root}/prometheus",
    )
    return hypervisor


def firing_or_about_to(hypervisor: Hypervisor) -> set[str]:
    found = ask(hypervisor, "query", query="ALERTS") or {"result": []}
    return {sample["metric"]["alertname"] for sample in found["result"]}


def test_a_real_prometheus_and_a_real_agent(watched: Hypervisor) -> None:
    guest = watched.add_guest("guest")
    watched.wait_until_served(guest)
    assert guest.identity() == guest.instance_id
    served = 'sum(rate(ovs_metadata_requests_total{job="ovs-metadata"}[1m])) > 0'

    def has_seen_requests() -> bool:
        assert guest.identity() == guest.instance_id
        return bool((ask(watched, "query", query=served) or {"result": []})["result"])

    wait_for(has_seen_requests, "two samples with requests between them", 30)
    for query in map(filled_in, dashboard_queries()):
        found = ask(watched, "query", query=query)
        assert found is not None, query
        if any(name in query for name in NEVER_EMPTY) and "==" not in query:
            assert found["result"], query
    (group,) = ask(watched, "rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert firing_or_about_to(watched) == set()

    watched.processes["metadata-service"].stop()
    guest.curl()
    wait_for(
        lambda: (
            {"OvsMetadataNoEndpoint", "OvsMetadataEndpointFailing"} <= firing_or_about_to(watched)
        ),
        "the alerts about Nova",
        20,
    )
    watched.processes["agent"].stop()
    wait_for(
        lambda: "OvsMetadataAgentDown" in firing_or_about_to(watched),
        "the alert about the agent",
        20,
    )


HYPERVISORS, MINUTES = 200, 6

MOST_LINES = 50
"""Lines that a reader can distinguish in one panel, more or less."""


def recorded(end: float) -> Iterator[str]:
    """OpenMetrics of 200 hypervisors in trouble, over some minutes; each tenth counts faults."""
    for family in make_registry(_troubled(), lambda: TROUBLE).collect():
        kind = family.type if family.type in {"counter", "histogram", "info"} else "gauge"
        yield f"# TYPE {family.name} {kind}"
        for host, sample in itertools.product(range(HYPERVISORS), family.samples):
            if sample.name.endswith("_created"):
                continue
            own = {"job": "ovs-metadata", "instance": f"cn-{host}"}
            labels = ",".join(f'{name}="{value}"' for name, value in (sample.labels | own).items())
            for minute in range(MINUTES):
                grown = minute if kind in {"counter", "histogram"} else 0
                value = sample.value + grown * (host % 10 == 0 or "request" in family.name)
                moment = end - 60 * (MINUTES - 1 - minute)
                yield f"{sample.name}{{{labels}}} {value} {moment}"
    yield "# EOF"


TROUBLE = AgentView(
    "cn-1",
    "br-int",
    enabled=True,
    generation="0123",
    generation_wanted="4567",
    children=(Child("flow controller", os.getpid(), running=True),),
    serves={4: True, 6: False},
    network=("there is no bridge",),
    store_disconnected=61.0,
    certificates=(Certificate("nova", "https://nova", 2.0e9),),
    configuration_problems=("a key is unknown",),
    controller=ControllerReport(wanted=24, missing=1, unexpected=1),
    reconciliation=ReconciliationReport(
        "ctl-1", 1.0e9, 2.0, 300.0, {"right": 900, "added": 3, "withheld": 7}, {"updated": 1}
    ),
)


def _troubled() -> HostStatistics:
    statistics = HostStatistics()
    statistics.refused = {"tap1": "claimed twice"}
    failing = EndpointHealth("http://nova-1", healthy=False, since=5.0, last_error="refused")
    well = EndpointHealth("http://nova-2", healthy=True, since=5.0, last_error="")
    statistics.workers = {0: WorkerState(3, (failing, well)), 1: WorkerState(3, (failing, well))}
    return statistics


def test_the_dashboard_reads_at_200_hypervisors(tmp_path: Path) -> None:
    end = int(time.time()) - 60
    data, blocks = tmp_path / "recorded", tmp_path / "blocks"
    data.write_text("\n".join([*recorded(end), ""]))
    promtool("tsdb", "create-blocks-from", "openmetrics", data, blocks)
    (tmp_path / "prometheus.yml").write_text("{}")
    place = f"127.0.0.1:{free_port()}"
    server = Process(
        [
            *("prometheus", f"--config.file={tmp_path}/prometheus.yml"),
            *(f"--storage.tsdb.path={blocks}", f"--web.listen-address={place}"),
        ],
        tmp_path / "prometheus.log",
    )
    try:
        wait_for(lambda: _asked(place, "vector(1)", end), "Prometheus", 30)
        for panel in panels():
            lines = 0
            for query in (each["expr"] for each in panel["targets"]):
                wide = filled_in(query).replace("[1m]", "[5m]")
                found = _asked(place, wide, end)
                assert found, f"{panel['title']}: {query} is empty"
                lines += len(found)
            if panel["type"] in {"timeseries", "state-timeline", "stat"}:
                assert lines <= MOST_LINES, panel["title"]
    finally:
        server.stop()


def _asked(place: str, query: str, moment: float) -> list[Any]:
    words = ("--data-urlencode", f"query={query}", "--data", f"time={moment}")
    output = run(
        *("curl", "--silent", "--max-time", "20", *words, f"http://{place}/api/v1/query"),
        check=False,
    )
    answer: dict[str, Any] = json.loads(output) if output.startswith("{") else {"status": "none"}
    assert answer["status"] != "error", answer
    return list(answer["data"]["result"]) if answer["status"] == "success" else []
