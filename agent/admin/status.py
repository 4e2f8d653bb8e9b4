"""This host at a glance, as one JSON object: what `ovs-metadata status` and the status page show.

Made at each request from what the agent knows anyway; only the history of the last minutes and the
last errors are kept for it. On the agent's event loop, from `start` to `close`. docs/status.md
describes the object.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tornado.ioloop import PeriodicCallback

import ovs_metadata
from ovs_metadata.agent.admin.history import INTERVAL, History, Interval, sample
from ovs_metadata.agent.admin.statistics import HostStatistics, WorkerState
from ovs_metadata.agent.child_process import Child
from ovs_metadata.agent.last_errors import LastErrors
from ovs_metadata.host.address import IpVersion
from ovs_metadata.utc import utc

RECENT = 60.0
"""Seconds that count as now, for rates and times."""


FLOW_CONTROLLER = "flow controller"
"""The name of that child."""


@dataclass(frozen=True, slots=True)
class AgentView:
    """The agent's view of itself; `enabled` is None while the configuration is unknown."""

    host: str = ""
    bridge: str = ""
    enabled: bool | None = None
    generation: str = ""
    children: tuple[Child, ...] = ()
    serves: Mapping[IpVersion, bool] = field(default_factory=dict)
    file: Mapping[str, str] = field(default_factory=dict)
    """The values of the configuration file that the agent uses."""
    store_disconnected: float | None = None
    """Seconds for which the store, or the source of port records if it is another, has not been
    connected, 0 while it is; None before the store opens."""

    @property
    def flow_controller_up(self) -> bool | None:
        """Whether the agent's flow controller runs and answers; None if the agent has none."""
        controllers = [child for child in self.children if child.name == FLOW_CONTROLLER]
        if not controllers:
            return None
        return all(child.running and not child.hangs for child in controllers)


class HostStatus:
    """The status of this host."""

    def __init__(
        self,
        statistics: HostStatistics,
        problems: Callable[[], Sequence[str]],
        view: Callable[[], AgentView],
    ) -> None:
        """Make it; `problems` says why this host does not serve, and nothing when it does."""
        self.statistics = statistics
        self.history = History()
        self._problems = problems
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

    def document(self) -> dict[str, Any]:
        """Return the present status of this host."""
        view = self._view()
        problems = list(self._problems())
        statistics = self.statistics
        return {
            "version": ovs_metadata.__version__,
            "host": view.host,
            "bridge": view.bridge,
            "pid": os.getpid(),
            "started": utc(self._started),
            "time": utc(time.time()),
            "ready": not problems,
            "problems": problems,
            "enabled": view.enabled,
            "ip_versions": {str(version): served for version, served in view.serves.items()},
            "generation": view.generation,
            "store_disconnected": view.store_disconnected,
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
            "workers": len(statistics.workers),
            "connections": sum(worker.connections for worker in statistics.workers.values()),
            "ports": statistics.ports_by_state(),
            "refused": refused_ports(statistics),
            "endpoints": endpoints(statistics.workers.values()),
            "requests": statistics.totals.total,
            "recent": recent(self.history.last(RECENT)),
            "errors": [
                {"time": utc(error.time), "message": error.message}
                for error in list(self._errors.errors)
            ],
        }


def refused_ports(statistics: HostStatistics) -> list[dict[str, str]]:
    """The interfaces that are refused, and why, by name."""
    return [
        {"interface": interface, "reason": reason}
        for interface, reason in sorted(statistics.refused.items())
    ]


def endpoints(workers: Iterable[WorkerState]) -> list[dict[str, Any]]:
    """Return each Nova endpoint as the workers see it together.

    Of `seen_by` workers, `tried_by` have tried it, and it is healthy for `healthy_for`; `since` and
    `last_error` are those of the worker that noticed the latest change.
    """
    found: dict[str, list[Any]] = {}
    for worker in workers:
        for endpoint in worker.endpoints:
            found.setdefault(endpoint.url, []).append(endpoint)
    return [
        {
            "url": url,
            "seen_by": len(seen),
            "tried_by": sum(each.healthy is not None for each in seen),
            "healthy_for": sum(each.healthy is True for each in seen),
            "since": utc(max(each.since for each in seen)),
            "last_error": max(
                seen, key=lambda each: (bool(each.last_error), each.since)
            ).last_error,
        }
        for url, seen in found.items()
    ]


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
