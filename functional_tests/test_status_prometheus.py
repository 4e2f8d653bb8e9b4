"""Alert rules and dashboard with Prometheus' own programs, beside a real agent."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import Factory

from docs.monitoring import ALERTS, ALERTS_TEST, dashboard_queries, filled_in
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for

PROMETHEUS = "127.0.0.1:9090"

NEVER_EMPTY = ("ovs_metadata_ready", "ovs_metadata_build_info", "ovs_metadata_workers")
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
