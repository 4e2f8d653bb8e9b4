"""What Neutron's server reports of its last reconciliation of all port records: a JSON document.

Values only: no I/O, no threads. Every server that has reconciled replaces the document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ovs_metadata.store.record import MAX_TEXT, is_printable
from ovs_metadata.untrusted import fits, parse_json

MAX_REPORT = 4096
"""Bytes of a document; ours has some 400."""

ACTIONS = ("right", "added", "updated", "removed", "kept", "refused", "withheld")
"""What a reconciliation did about a port or network: nothing, as it was right; added, updated or
removed its document; kept one that is newer than Neutron's; nothing, as the store had something
newer by then; or withheld the removal, as most documents would have gone."""

REPAIRS = ("added", "updated", "removed")
"""Those of `ACTIONS` that changed the store."""

MAX_TIME = 1e11
"""Seconds; a time beyond has a year that no calendar here knows."""

LATE_AFTER = 3
"""Intervals without a reconciliation from which on it is late."""

Counts = Mapping[str, int]
"""Number of ports, or networks, for some of `ACTIONS`."""

_SHAPE = {
    "server": str,
    **dict.fromkeys(("time", "duration", "interval"), (int, float)),
    "ports": dict,
    "networks": dict,
}


@dataclass(frozen=True)
class ReconciliationReport:
    """The last reconciliation, or none as yet, whose time is 0.

    server: the host that did it. time: of its end, in seconds since the epoch. duration, and
    interval to the next one of that server: in seconds.
    """

    server: str = ""
    time: float = 0.0
    duration: float = 0.0
    interval: float = 0.0
    ports: Counts = field(default_factory=dict)
    networks: Counts = field(default_factory=dict)

    def is_late(self, now: float) -> bool:
        """Whether there should have been another one by now."""
        return self.time > 0 and now > self.time + LATE_AFTER * self.interval

    @property
    def repaired(self) -> int:
        """The number of ports and networks whose documents it changed."""
        return sum(
            counts.get(action, 0) for counts in (self.ports, self.networks) for action in REPAIRS
        )

    def to_json(self) -> bytes:
        """The document."""
        return json.dumps(asdict(self), sort_keys=True).encode("ascii")


NEVER = ReconciliationReport()
"""No server has reported a reconciliation."""


def read_report(data: bytes) -> ReconciliationReport:
    """Read the document. Members and actions that it does not know are ignored.

    Raises:
        ValueError: the document cannot be used; says why.
    """
    found = parse_json(data, MAX_REPORT)
    if not fits(found, _SHAPE):
        raise ValueError("it is not the report of a reconciliation")
    server = found["server"]
    if len(server) > MAX_TEXT or not is_printable(server):
        raise ValueError(f"server is not a text of at most {MAX_TEXT} printable characters")
    times = {name: _seconds(name, found[name]) for name in ("time", "duration", "interval")}
    return ReconciliationReport(
        server, **times, ports=_counts(found["ports"]), networks=_counts(found["networks"])
    )


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not 0 <= value <= MAX_TIME:
        raise ValueError(f"{name} is not a number of seconds")
    return float(value)


def _counts(found: Mapping[str, Any]) -> Counts:
    counts = {action: found[action] for action in ACTIONS if action in found}
    if not all(type(count) is int and 0 <= count <= MAX_TIME for count in counts.values()):
        raise ValueError("what it did is not a number of ports or networks for each action")
    return counts
