"""This host at a glance, as one JSON object: what `ovs-metadata status` and the status page show.

Made at each request from what the agent knows anyway; only the history of the last minutes and the
last errors are kept for it. On the agent's event loop, from `start` to `close`. docs/status.md
describes the object.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

from tornado.ioloop import PeriodicCallback

import ovs_metadata
from ovs_metadata.agent.admin.history import INTERVAL, History, Interval, sample
from ovs_metadata.agent.admin.statistics import HostStatistics, WorkerState
from ovs_metadata.agent.certificates import of_endpoints
from ovs_metadata.agent.health import AgentView, EndpointView, HostHealth, health, worker_name
from ovs_metadata.agent.last_errors import LastErrors
from ovs_metadata.proxy.nova.health import EndpointHealth
from ovs_metadata.store.reconciliation import NEVER, ReconciliationReport
from ovs_metadata.utc import utc

RECENT = 60.0
"""Seconds that count as now, for rates and times."""


class HostStatus:
    """The status of this host."""

    def __init__(
        self,
        statistics: HostStatistics,
        view: Callable[[], AgentView],
    ) -> None:
        """Make it; `view` is what the agent knows besides the statistics."""
        self.statistics = statistics
        self.history = History()
        self._view = view
        self._errors = LastErrors()
        self._started = time.time()
        self._sampling = PeriodicCallback(self.sample, INTERVAL * 1000)

    def start(self) -> None:
        """Begin to keep history and errors."""
        self._errors.start()
        self.sample()
        self._sampling.start()

    def close(self) -> None:
        """Stop keeping history and errors."""
        self._sampling.stop()
        self._errors.close()

    def sample(self) -> None:
        """Take a sample for the history."""
        self.history.add(sample(self.statistics.totals, time.monotonic()))

    def view(self) -> AgentView:
        """Return all that is known of this host at present."""
        return with_workers(self._view(), self.statistics)

    def health(self) -> HostHealth:
        """Return the present health of this host."""
        return health(self.view())

    def ports_document(self) -> dict[str, Any]:
        """Return the ports of this host, and whether it serves them."""
        found = self.health()
        return {
            "state": found.state.value,
            "problems": found.problems,
            "ports": self.statistics.ports(),
            "refused": refused_ports(self.statistics),
        }

    def document(self) -> dict[str, Any]:
        """Return the present status of this host."""
        view = self.view()
        found = health(view)
        statistics = self.statistics
        return {
            "version": ovs_metadata.__version__,
            "host": view.host,
            "bridge": view.bridge,
            "pid": os.getpid(),
            "started": utc(self._started),
            "time": utc(time.time()),
            **health_document(found),
            "enabled": view.enabled,
            "ip_versions": {str(version): served for version, served in view.serves.items()},
            "generation": view.generation,
            "generation_wanted": view.generation_wanted,
            "store_disconnected": view.store_disconnected,
            "ovsdb_silent": view.ovsdb_silent,
            "file": [{"name": name, "value": value} for name, value in view.file.items()],
            "children": [
                {
                    "name": child.name,
                    "pid": child.pid,
                    "running": child.running,
                    "still": child.hangs,
                }
                for child in view.children
            ],
            "controller": asdict(view.controller) if view.controller else None,
            "workers": view.workers_serving,
            "connections": sum(worker.connections for worker in statistics.workers.values()),
            "ports": statistics.ports_by_state(),
            "refused": refused_ports(statistics),
            "endpoints": [
                {**asdict(endpoint), "since": utc(endpoint.since)} for endpoint in view.endpoints
            ],
            "certificates": [
                {**asdict(each), "until": utc(each.until)} for each in view.certificates
            ],
            "reconciliation": _reconciliation(view.reconciliation),
            "requests": statistics.totals.total,
            "recent": recent(self.history.last(RECENT)),
            "errors": [
                {"time": utc(error.time), "message": error.message}
                for error in list(self._errors.errors)
            ],
        }


def _reconciliation(report: ReconciliationReport | None) -> dict[str, Any] | None:
    """Return Neutron's last reconciliation; None if none is known."""
    if report is None or report == NEVER:
        return None
    return {**asdict(report), "time": utc(report.time), "repaired": report.repaired}


def refused_ports(statistics: HostStatistics) -> list[dict[str, str]]:
    """The interfaces that are refused, and why, by name."""
    return [
        {"interface": interface, "reason": reason}
        for interface, reason in sorted(statistics.refused.items())
    ]


def health_document(found: HostHealth) -> dict[str, Any]:
    """Return the health of a host as a part of a JSON object."""
    return {
        "state": found.state.value,
        "serving": found.serving,
        "ready": found.ready,
        "problems": found.problems,
        "warnings": found.warnings,
        "findings": [
            {"code": each.code, "level": each.level.name.lower(), "text": each.text}
            for each in found.findings
        ],
    }


def with_workers(view: AgentView, statistics: HostStatistics) -> AgentView:
    """Return the agent's view with what workers and flow controller report."""
    workers = statistics.workers.values()
    hanging = {child.name for child in view.children if child.hangs}
    return replace(
        view,
        workers_serving=sum(worker_name(number) not in hanging for number in statistics.workers),
        endpoints=endpoints(workers),
        controller=statistics.controller,
        certificates=(*view.certificates, *of_endpoints(workers)),
        time=time.time(),
    )


def endpoints(workers: Iterable[WorkerState]) -> tuple[EndpointView, ...]:
    """Return each Nova endpoint as the workers see it together."""
    found: dict[str, list[EndpointHealth]] = {}
    for worker in workers:
        for endpoint in worker.endpoints:
            found.setdefault(endpoint.url, []).append(endpoint)
    return tuple(
        EndpointView(
            url=url,
            seen_by=len(seen),
            tried_by=sum(each.healthy is not None for each in seen),
            healthy_for=sum(each.healthy is True for each in seen),
            since=max(each.since for each in seen),
            last_error=max(seen, key=lambda each: (bool(each.last_error), each.since)).last_error,
        )
        for url, seen in found.items()
    )


def recent(interval: Interval | None) -> dict[str, Any] | None:
    """Return rates and times of an interval; None as long as there is none."""
    if interval is None:
        return None
    return {
        "seconds": round(interval.end - interval.start, 1),
        "requests_per_second": round(interval.rate, 3),
        "failed_per_second": round(interval.failed_rate, 3),
        "median_first_byte_seconds": interval.quantile(0.5),
        "p95_first_byte_seconds": interval.quantile(0.95),
    }
