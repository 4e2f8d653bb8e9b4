"""Statistics of this host's workers: their totals, and the activity of each port.

The totals include workers that have exited: they never decrease while the agent runs. All on the
agent's event loop.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ovs_metadata.flows.controller_report import ControllerReport, parse_report
from ovs_metadata.host.shared_map import changed_keys
from ovs_metadata.proxy.accounting.report import (
    ANSWERED,
    OTHER,
    OTHER_CAUSES,
    OWN_ANSWERS,
    REFUSALS,
    Histogram,
    Report,
)
from ovs_metadata.proxy.control.identity import Entry, Identity, Pending
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.nova.health import EndpointHealth
from ovs_metadata.utc import utc

MAX_ANSWERS = 256
"""Pairs of status and cause that are counted each by itself; all others count as one."""

_ANY_OTHER = (0, OTHER)


@dataclass(slots=True)
class Totals:
    """What was counted since the agent started.

    Whatever can be foreseen begins at 0, so that its first occurrence is an increase.
    """

    requests: dict[tuple[int, str], int] = field(
        default_factory=lambda: {
            (200, ANSWERED): 0,
            _ANY_OTHER: 0,
            **{(0, cause): 0 for cause in OTHER_CAUSES},
            **{(200, cause): 0 for cause in OWN_ANSWERS},
            **{(error.value.status, error.name.lower()): 0 for error in ProxyError},
        }
    )
    """By status and cause."""
    duration: Histogram = field(default_factory=Histogram)
    first_byte: Histogram = field(default_factory=Histogram)
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(sorted(REFUSALS), 0))
    lines_dropped: int = 0
    """Lines of log that workers dropped."""
    controller_lines_dropped: int = 0
    children_hung: dict[str, int] = field(
        default_factory=lambda: {"worker": 0, "flow_controller": 0}
    )
    """Children that the agent killed because they hung."""
    agent_silent_seconds: int = 0
    """Seconds without a heartbeat of the agent, summed over the workers."""
    worker_restarts: int = 0
    flows_repaired: int = 0
    messages_refused: int = 0
    """OpenFlow messages of the flow controller that the bridge refused."""
    reports_refused: int = 0

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests.values())

    def add(self, report: Report) -> None:
        """Add what a worker has counted since its last report."""
        counts = report.counts
        for key, number in counts.requests.items():
            full = len(self.requests) >= MAX_ANSWERS and key not in self.requests
            counted = _ANY_OTHER if full else key
            self.requests[counted] = self.requests.get(counted, 0) + number
        for cause, number in counts.refused.items():
            self.refused[cause] = self.refused.get(cause, 0) + number
        self.duration += counts.duration
        self.first_byte += counts.first_byte
        self.accepted += counts.accepted
        self.lines_dropped += report.lines_dropped
        self.agent_silent_seconds += report.agent_silent


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The state of a running worker, as of its last report."""

    connections: int = 0
    endpoints: tuple[EndpointHealth, ...] = ()


@dataclass(slots=True)
class _PortTotals:
    requests: int
    status: int
    cause: str
    reported: float  # seconds since the epoch
    source: str


class HostStatistics:
    """The totals, the workers there are, and the ports. Lives as long as the agent."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.workers: dict[int, WorkerState] = {}
        """The workers that serve, by number: each from its first report until it ends."""
        self.controller: ControllerReport | None = None
        """The last report of the flow controller that runs; None before its first."""
        self.refused: Mapping[str, str] = {}
        """Interfaces that are refused, each with the reason in words for an operator."""
        self._table: Mapping[str, Entry] = {}
        self._ports: dict[str, dict[str, Entry]] = {}
        """The part of the table that belongs to each port."""
        self._served: set[str] = set()
        self._activity: dict[str, _PortTotals] = {}

    def table_changed(self, table: Mapping[str, Entry]) -> None:
        """Take over the ports of the identity table; those no longer in it are forgotten.

        The caller keeps the table as it is.
        """
        before, self._table = self._table, table
        changed = changed_keys(before, table)
        concerned = set()
        for address in changed & before.keys():
            port_id = before[address].port_id
            self._ports[port_id].pop(address)
            concerned.add(port_id)
        for address in changed & table.keys():
            port_id = table[address].port_id
            self._ports.setdefault(port_id, {})[address] = table[address]
            concerned.add(port_id)
        for port_id in concerned:
            entries = self._ports[port_id]
            if any(isinstance(each, Identity) for each in entries.values()):
                self._served.add(port_id)
            else:
                self._served.discard(port_id)
            if not entries:
                del self._ports[port_id]
                self._activity.pop(port_id, None)

    def controller_starts(self) -> None:
        """Another flow controller starts, and has not reported yet."""
        self.controller = None

    def controller_reports(self, line: bytes) -> None:
        """Take a report of the flow controller."""
        report = parse_report(line)
        if report is None:
            return
        before = self.controller or ControllerReport()
        self.totals.flows_repaired += max(0, report.repaired - before.repaired)
        self.totals.messages_refused += max(0, report.refused - before.refused)
        self.controller = report

    def controller_dropped_lines(self, number: int) -> None:
        """Count lines of log that the flow controller dropped."""
        self.totals.controller_lines_dropped += number

    def child_hung(self, process: str) -> None:
        """Count a child that the agent killed because it hung."""
        self.totals.children_hung[process] += 1

    def worker_restarted(self) -> None:
        """Count a worker that replaces one that exited by itself."""
        self.totals.worker_restarts += 1

    def worker_ended(self, number: int) -> None:
        """Forget the state of a worker. Its counts stay in the totals."""
        self.workers.pop(number, None)

    def report(self, number: int, report: Report) -> None:
        """Add a worker's report to the totals."""
        self.totals.add(report)
        self.workers[number] = WorkerState(report.connections, report.endpoints)
        now = time.time()
        for port_id, activity in report.counts.ports.items():
            if port_id not in self._ports:
                continue  # the port has left, or a compromised worker invents one
            before = self._activity.get(port_id)
            total = activity.requests + (before.requests if before else 0)
            self._activity[port_id] = _PortTotals(
                total, activity.status, activity.cause, now, activity.source
            )

    def report_refused(self) -> None:
        """Count an invalid report."""
        self.totals.reports_refused += 1

    def ports_by_state(self) -> dict[str, int]:
        """How many ports are served, pending, and refused."""
        return {
            "served": len(self._served),
            "pending": len(self._ports) - len(self._served),
            "refused": len(self.refused),
        }

    def ports(self) -> list[dict[str, Any]]:
        """Each port as a JSON object, by port ID. See docs/metrics.md."""
        return [self._port(port_id) for port_id in sorted(self._ports)]

    def _port(self, port_id: str) -> dict[str, Any]:
        by_address = dict(sorted(self._ports[port_id].items()))
        entries = by_address.values()
        identity = next((each for each in entries if isinstance(each, Identity)), None)
        entry = identity or next(iter(entries))
        last = self._activity.get(port_id)
        return {
            "port_id": port_id,
            "instance_id": identity.instance_id if identity else None,
            "fixed_ip": identity.fixed_ip if identity else None,
            "state": "served" if identity else "pending",
            "reason": entry.reason if isinstance(entry, Pending) else None,
            "metadata_options": None if identity is None else identity.options.shown(),
            "addresses": list(by_address),
            "requests": last.requests if last else 0,
            "last_status": last.status if last else None,
            "last_cause": last.cause if last else None,
            "last_time": utc(last.reported) if last else None,
            "last_source": last.source or None if last else None,
        }
