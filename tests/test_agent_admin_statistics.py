"""What the agent makes of its workers' reports: totals, ports, metrics."""

import re
from collections.abc import Mapping

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from proxy_support import identity

from ovs_metadata.agent.admin.metrics import make_registry
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.admin.status import with_workers
from ovs_metadata.agent.health import AgentView
from ovs_metadata.flows.controller_report import ControllerReport
from ovs_metadata.metadata_options import EffectiveOptions
from ovs_metadata.proxy.accounting.report import Report
from ovs_metadata.proxy.accounting.statistics import Statistics
from ovs_metadata.proxy.control.identity import Entry, Pending
from ovs_metadata.proxy.nova.health import EndpointHealth

TABLE: Mapping[str, Entry] = {
    "169.254.0.5": identity(5),
    "fe80::a9fe:5": identity(5),
    "169.254.0.6": Pending("port-6", "no record yet"),
}


def report(*requests: tuple[str, int, str], connections: int = 0) -> Report:
    """A worker's report of requests, each of a port, with a status and a cause."""
    statistics = Statistics()
    for port_id, status, cause in requests:
        statistics.request_done(port_id, status, cause, 0.02, 0.01, source="10.0.0.7")
    endpoint = EndpointHealth("http://nova", healthy=True, since=5.0, last_error="")
    return Report(counts=statistics.take(), connections=connections, endpoints=(endpoint,))


def samples(statistics: HostStatistics, *, ready: bool = True) -> dict[str, float]:
    """All of the samples that Prometheus would get, by name and labels as it writes them."""
    view = AgentView(network=() if ready else ("no bridge",))
    text = generate_latest(
        make_registry(statistics, lambda: with_workers(view, statistics))
    ).decode()
    return {
        sample.name.removeprefix("ovs_metadata_")
        + ("{" + ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items())) + "}")
        * bool(sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def statistics() -> HostStatistics:
    statistics = HostStatistics()
    statistics.table_changed(TABLE)
    return statistics


def test_reports_of_all_workers_add_up(statistics: HostStatistics) -> None:
    statistics.report(0, report(("port-5", 200, "answered"), ("port-5", 404, "answered")))
    statistics.report(1, report(("port-5", 200, "answered")))
    statistics.report(1, report(("port-6", 503, "not_ready")))
    found = samples(statistics)
    assert found["requests_total{cause=answered,status=200}"] == 2
    assert found["requests_total{cause=answered,status=404}"] == 1
    assert found["requests_total{cause=not_ready,status=503}"] == 1
    assert found["request_duration_seconds_count"] == 4
    assert found["request_duration_seconds_sum"] == pytest.approx(0.08)
    assert found["request_duration_seconds_bucket{le=0.01}"] == 0
    assert found["request_duration_seconds_bucket{le=0.025}"] == 4
    assert found["request_first_byte_seconds_bucket{le=0.01}"] == 4


def test_what_a_worker_was_vanishes_with_it_and_what_it_counted_does_not(
    statistics: HostStatistics,
) -> None:
    statistics.report(0, report(("port-5", 200, "answered"), connections=3))
    statistics.report(1, report(connections=4))
    before = samples(statistics)
    assert before["workers"] == 2
    assert before["connections{worker=0}"] == 3
    assert before["endpoint_healthy{endpoint=http://nova,worker=0}"] == 1
    statistics.worker_ended(0)
    statistics.worker_restarted()
    after = samples(statistics)
    assert after["workers"] == 1
    assert "connections{worker=0}" not in after
    assert "endpoint_healthy{endpoint=http://nova,worker=0}" not in after
    assert after["connections{worker=1}"] == 4
    assert after["worker_restarts_total"] == 1
    assert after["requests_total{cause=answered,status=200}"] == 1


def test_counts_of_a_flow_controller_outlive_it() -> None:
    statistics = HostStatistics()
    statistics.controller_reports(ControllerReport(connected=True, repaired=3, refused=1).line())
    statistics.controller_reports(ControllerReport(connected=True, repaired=5, refused=1).line())
    statistics.controller_reports(b"nonsense")
    statistics.controller_starts()
    assert statistics.controller is None
    statistics.controller_reports(ControllerReport(repaired=2, missing=4).line())
    found = samples(statistics)
    assert found["flows_repaired_total"] == 7
    assert found["openflow_messages_refused_total"] == 1


def test_what_can_be_foreseen_begins_at_zero() -> None:
    found = samples(HostStatistics(), ready=False)
    assert found["requests_total{cause=answered,status=200}"] == 0
    assert found["requests_total{cause=rate_limited,status=429}"] == 0
    assert found["requests_total{cause=no_interface,status=404}"] == 0
    assert found["connections_refused_total{cause=port_limit}"] == 0
    assert found["ports{state=served}"] == 0
    assert found["ready"] == 0


def test_a_port_has_its_requests_and_its_last_answer(statistics: HostStatistics) -> None:
    statistics.report(0, report(("port-5", 200, "answered"), ("port-5", 404, "answered")))
    statistics.report(1, report(("port-5", 503, "no_endpoint")))
    served, pending = statistics.ports()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", served.pop("last_time"))
    assert served == {
        "port_id": "port-5",
        "instance_id": "instance-5",
        "fixed_ip": "10.0.0.5",
        "state": "served",
        "reason": None,
        "metadata_options": EffectiveOptions().shown(),
        "addresses": ["169.254.0.5", "fe80::a9fe:5"],
        "requests": 3,
        "last_status": 503,
        "last_cause": "no_endpoint",
        "last_source": "10.0.0.7",
    }
    assert pending == {
        "port_id": "port-6",
        "instance_id": None,
        "fixed_ip": None,
        "state": "pending",
        "reason": "no record yet",
        "metadata_options": None,
        "addresses": ["169.254.0.6"],
        "requests": 0,
        "last_status": None,
        "last_cause": None,
        "last_time": None,
        "last_source": None,
    }
    assert samples(statistics)["ports{state=served}"] == 1
    assert samples(statistics)["ports{state=pending}"] == 1


def test_refused_interfaces_are_counted(statistics: HostStatistics) -> None:
    assert samples(statistics)["ports{state=refused}"] == 0
    statistics.refused = {"tap6": "two interfaces claim its port"}
    assert samples(statistics)["ports{state=refused}"] == 1


def test_a_worker_cannot_invent_ports(statistics: HostStatistics) -> None:
    statistics.report(0, report(("port-of-no-one", 200, "answered")))
    assert [port["port_id"] for port in statistics.ports()] == ["port-5", "port-6"]
    statistics.table_changed({**TABLE, "169.254.0.7": identity(7, port="port-of-no-one")})
    assert [port["requests"] for port in statistics.ports()] == [0, 0, 0]


def test_a_port_that_is_gone_is_forgotten(statistics: HostStatistics) -> None:
    statistics.report(0, report(("port-5", 200, "answered")))
    statistics.table_changed({})
    assert statistics.ports() == []
    statistics.table_changed(TABLE)
    assert statistics.ports()[0]["requests"] == 0
    assert samples(statistics)["requests_total{cause=answered,status=200}"] == 1
