"""The agent's metrics in Prometheus' terms. They are documented in docs/metrics.md.

`HostStatistics` keeps the totals. This module turns them into the form that prometheus-client
renders, at each request.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from ovs_metadata import __version__
from ovs_metadata.agent.admin.statistics import HostStatistics, Totals
from ovs_metadata.agent.health import AgentView, health
from ovs_metadata.logs import standard_error
from ovs_metadata.proxy.accounting.report import BUCKETS, Histogram
from ovs_metadata.proxy.http.errors import REFUSED_BY_OPTION
from ovs_metadata.store.reconciliation import ACTIONS, ReconciliationReport

PREFIX = "ovs_metadata_"


def make_registry(statistics: HostStatistics, view: Callable[[], AgentView]) -> CollectorRegistry:
    """Return a registry of its own with all of the agent's metrics, its own process included."""
    registry = CollectorRegistry()
    registry.register(HostCollector(statistics, view))
    ProcessCollector(registry=registry)
    return registry


class HostCollector(Collector):
    """Collects the statistics of one host."""

    def __init__(self, statistics: HostStatistics, view: Callable[[], AgentView]) -> None:
        self._statistics = statistics
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now."""
        yield InfoMetricFamily(PREFIX + "build", "The agent's version.", {"version": __version__})
        view = self._view()
        found = health(view)
        yield _gauge(
            "ready",
            "1 if this host serves its instances and would serve new ones, as /healthz says.",
            found.ready,
        )
        yield _gauge("serving", "1 if this host serves its instances.", found.serving)
        yield from _of_agent(view)
        yield from _counters(self._statistics.totals)
        yield from _gauges(self._statistics, view)


def _of_agent(view: AgentView) -> Iterator[Metric]:
    """What the agent knows of itself. A value that it does not know yet is absent."""
    yield _known(
        "enabled",
        "1 if the deployment's configuration enables this host; absent until it is known.",
        view.enabled,
    )
    served = GaugeMetricFamily(
        PREFIX + "ip_version_served",
        "1 if guests can be served over this IP version; absent if the kernel has it off.",
        labels=["version"],
    )
    for version, is_served in sorted(view.serves.items()):
        served.add_metric([str(version)], float(is_served))
    yield served
    yield _known(
        "flow_controller_up",
        "1 if the agent's flow controller runs and sends heartbeats; absent if it has none.",
        view.flow_controller_up,
    )
    report = view.controller
    yield _known(
        "flow_controller_connected",
        "1 if the agent's flow controller is connected to the bridge; absent before it reports.",
        report.connected if report else None,
    )
    flows = GaugeMetricFamily(
        PREFIX + "flows",
        "Flows that the bridge should have; that it lacked, and that it should not have had, when "
        "the flow controller last compared them.",
        labels=["state"],
    )
    if report:
        flows.add_metric(["wanted"], report.wanted)
        flows.add_metric(["missing"], report.missing)
        flows.add_metric(["unexpected"], report.unexpected)
    yield flows
    yield _known(
        "store_disconnected_seconds",
        "Seconds for which the store has not been connected, or OVN's southbound database if port "
        "records come from it; 0 while it is.",
        view.store_disconnected,
    )
    yield _gauge(
        "ovsdb_silent_seconds",
        "Seconds for which ovsdb-server has not answered the agent; 0 if it answers.",
        view.ovsdb_silent,
    )
    yield _known(
        "configuration_applied",
        "1 if the agent has applied the configuration in the store as a whole; absent before it "
        "has read it.",
        view.generation == view.generation_wanted if view.generation_wanted else None,
    )
    yield _gauge(
        "configuration_problems",
        "Problems of the configuration in the store; the agent keeps the values it has.",
        len(view.configuration_problems),
    )
    certificates = GaugeMetricFamily(
        PREFIX + "certificate_not_after_timestamp_seconds",
        "When a certificate expires; seconds since the epoch.",
        labels=["use", "place"],
    )
    for each in view.certificates:
        certificates.add_metric([each.use, each.place], each.until)
    yield certificates
    yield from _of_reconciliation(view.reconciliation)
    yield from _of_processes(view)
    for name, text, generation in (
        ("configuration", "The configuration that the agent has applied.", view.generation),
        ("configuration_wanted", "The configuration in the store.", view.generation_wanted),
    ):
        value = {"generation": generation} if generation else None
        yield InfoMetricFamily(PREFIX + name, text, value)


def _of_reconciliation(report: ReconciliationReport | None) -> Iterator[Metric]:
    """Neutron's last one. There is no sample without a report, but for a time of 0."""
    done = report if report and report.time else None
    yield _known(
        "reconciliation_timestamp_seconds",
        "When a server of Neutron last reconciled all port records, in seconds since the epoch; 0 "
        "if none has reported that, absent if records do not come from Neutron.",
        report.time if report else None,
    )
    yield _known(
        "reconciliation_interval_seconds",
        "Seconds from one reconciliation of that server to its next one.",
        done.interval if done else None,
    )
    yield _known(
        "reconciliation_duration_seconds",
        "Seconds that the last reconciliation took.",
        done.duration if done else None,
    )
    results = GaugeMetricFamily(
        PREFIX + "reconciliation_results",
        "Ports and networks of the last reconciliation, by what it did about their documents.",
        labels=["resource", "action"],
    )
    for resource, counts in (("port", done.ports), ("network", done.networks)) if done else ():
        for action in ACTIONS:
            results.add_metric([resource, action], counts.get(action, 0))
    yield results


def _of_processes(view: AgentView) -> Iterator[Metric]:
    """Memory and descriptors of the children; `process_*` are the agent's own."""
    memory = GaugeMetricFamily(
        PREFIX + "child_resident_memory_bytes",
        "Resident memory of a child process of the agent.",
        labels=["process"],
    )
    descriptors = GaugeMetricFamily(
        PREFIX + "child_open_fds", "Open file descriptors of a child process.", labels=["process"]
    )
    for child in view.children:
        place = Path("/proc") / str(child.pid)
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages = int((place / "statm").read_bytes().split()[1])
            descriptors.add_metric([child.name], len(os.listdir(place / "fd")))
            memory.add_metric([child.name], pages * os.sysconf("SC_PAGE_SIZE"))
    yield from (memory, descriptors)


def _counters(totals: Totals) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        PREFIX + "requests",
        "Guests' requests, by the status and the cause of the response.",
        labels=["status", "cause"],
    )
    for (status, cause), count in sorted(totals.requests.items()):
        requests.add_metric([str(status), cause], count)
    yield requests
    refusals = CounterMetricFamily(
        PREFIX + "option_refusals",
        "Guests' requests that a metadata option refused, by the option and the cause.",
        labels=["option", "cause"],
    )
    for error, option in sorted(REFUSED_BY_OPTION.items(), key=lambda each: each[0].name):
        cause = error.name.lower()
        count = totals.requests.get((error.value.status, cause), 0)
        refusals.add_metric([option, cause], count)
    yield refusals
    yield _histogram(
        "request_first_byte_seconds",
        "From the whole request to the first byte of its response.",
        totals.first_byte,
    )
    yield _histogram(
        "request_duration_seconds",
        "From the whole request to the last byte of its response.",
        totals.duration,
    )
    yield _counter(
        "connections_accepted", "Guests' connections that proxy workers accepted.", totals.accepted
    )
    refused = CounterMetricFamily(
        PREFIX + "connections_refused",
        "Guests' connections that proxy workers refused, by the limit that they reached.",
        labels=["cause"],
    )
    for cause, count in sorted(totals.refused.items()):
        refused.add_metric([cause], count)
    yield refused
    dropped = CounterMetricFamily(
        PREFIX + "log_lines_dropped",
        "Log lines, access log included, dropped because the log's reader was too slow.",
        labels=["process"],
    )
    dropped.add_metric(["agent"], standard_error().dropped)
    dropped.add_metric(["worker"], totals.lines_dropped)
    dropped.add_metric(["flow_controller"], totals.controller_lines_dropped)
    yield dropped
    still = CounterMetricFamily(
        PREFIX + "children_stood_still",
        "Child processes that the agent killed because they hung.",
        labels=["process"],
    )
    for process, count in totals.children_hung.items():
        still.add_metric([process], count)
    yield still
    yield _counter(
        "agent_silent_seconds",
        "Seconds without a heartbeat of the agent, summed over the proxy workers.",
        totals.agent_silent_seconds,
    )
    yield _counter(
        "flows_repaired",
        "Flows that another program deleted or added, and that the flow controller changed back.",
        totals.flows_repaired,
    )
    yield _counter(
        "openflow_messages_refused",
        "Messages of the flow controller that the bridge refused.",
        totals.messages_refused,
    )
    yield _counter(
        "worker_restarts",
        "Proxy workers that exited by themselves and that the agent started again.",
        totals.worker_restarts,
    )
    yield _counter(
        "worker_reports_refused",
        "Invalid reports of proxy workers; the agent kills a worker that sends one.",
        totals.reports_refused,
    )


def _gauges(statistics: HostStatistics, view: AgentView) -> Iterator[Metric]:
    yield _gauge("workers", "Proxy workers that serve.", view.workers_serving)
    ports = GaugeMetricFamily(
        PREFIX + "ports",
        "Ports of instances on this host: served, pending until there is a record to trust, or "
        "refused.",
        labels=["state"],
    )
    for state, count in statistics.ports_by_state().items():
        ports.add_metric([state], count)
    yield ports
    connections = GaugeMetricFamily(
        PREFIX + "connections", "Guests' open connections.", labels=["worker"]
    )
    healthy = GaugeMetricFamily(
        PREFIX + "endpoint_healthy",
        "1 if the Nova metadata endpoint was healthy when the worker last tried it; absent before.",
        labels=["worker", "endpoint"],
    )
    since = GaugeMetricFamily(
        PREFIX + "endpoint_since_timestamp_seconds",
        "When the endpoint last became healthy or unhealthy; seconds since the epoch.",
        labels=["worker", "endpoint"],
    )
    for number, worker in sorted(statistics.workers.items()):
        connections.add_metric([str(number)], worker.connections)
        for endpoint in {each.url: each for each in worker.endpoints}.values():
            if endpoint.healthy is None:
                continue
            labels = [str(number), endpoint.url]
            healthy.add_metric(labels, float(endpoint.healthy))
            since.add_metric(labels, endpoint.since)
    yield from (connections, healthy, since)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _known(name: str, text: str, value: float | None) -> Metric:
    """A gauge without a sample where the value is None."""
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    ends = [*map(str, BUCKETS), "+Inf"]
    buckets = list(zip(ends, map(float, accumulate(histogram.counts)), strict=True))
    return HistogramMetricFamily(PREFIX + name, text, buckets=buckets, sum_value=histogram.sum)
