"""Reports: how a worker tells the agent what it has counted.

One JSON object per line over the feed's socket pair, from the worker to the agent, about once a
second. Counts are those since the last report, so that nothing is lost or counted twice when
another worker takes this one's place; connections and endpoints are as they are now:

    {"requests": [[status, cause, count], …],
     "duration": [[count per bucket …], sum], "first_byte": [[…], sum],
     "ports": {port id: [count, last status, last cause], …},
     "accepted": n, "refused": {cause: n}, "lines_dropped": n,
     "connections": n, "endpoints": [[url, healthy, since, last error], …]}

A worker talks to guests, so the agent trusts nothing of this: every value has a type, a range and
a bound, and the names of causes are known.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovs_metadata.proxy.errors import Failure
from ovs_metadata.proxy.health import EndpointHealth

MAX_LINE = 1024 * 1024
"""The longest report the agent reads, in bytes."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the buckets of a histogram, in seconds; one without end follows."""

ANSWERED = "answered"
"""The cause of an answer that is Nova's own."""

OTHER_CAUSES = ("guest_gone", "cut_off")
"""Why an answer was not given, or not to its end, besides the failures: the guest went away; it
was cut short, for its port's identity changed or Nova's answer broke off."""

CAUSES = frozenset({ANSWERED, *OTHER_CAUSES, *(failure.name.lower() for failure in Failure)})

REFUSALS = frozenset({"port_limit", "worker_limit"})
"""Why a connection is turned away: too many of its port, or too many of all ports together."""

_LARGEST = 2**53
"""The largest count, which JSON and Prometheus can both carry exactly."""
_MOST_PORTS = 65536
_MOST_ENDPOINTS = 64
_LONGEST_TEXT = 512


class ReportError(Exception):
    """A line is no report; the message says what is wrong with it, in words of ours only."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many requests took how long: a count for each of `BUCKETS` and beyond, and the sum."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    sum: float = 0.0

    def __add__(self, other: "Histogram") -> "Histogram":
        counts = zip(self.counts, other.counts, strict=True)
        return Histogram(tuple(mine + its for mine, its in counts), self.sum + other.sum)


@dataclass(frozen=True, slots=True)
class PortActivity:
    """What a port has asked, and what it was answered last."""

    requests: int
    status: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was counted since the last report."""

    requests: Mapping[tuple[int, str], int]
    """By status and cause."""
    duration: Histogram
    first_byte: Histogram
    ports: Mapping[str, PortActivity]
    accepted: int
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker reports."""

    counts: Counts
    lines_dropped: int = 0
    connections: int = 0
    endpoints: tuple[EndpointHealth, ...] = ()


def encode(report: Report) -> bytes:
    """Return a report as a line, with its newline."""
    counts = report.counts
    data = {
        "requests": [[*key, count] for key, count in counts.requests.items()],
        "duration": [counts.duration.counts, counts.duration.sum],
        "first_byte": [counts.first_byte.counts, counts.first_byte.sum],
        "ports": {
            port_id: [port.requests, port.status, port.cause]
            for port_id, port in counts.ports.items()
        },
        "accepted": counts.accepted,
        "refused": counts.refused,
        "lines_dropped": report.lines_dropped,
        "connections": report.connections,
        "endpoints": [
            [each.url[:_LONGEST_TEXT], each.healthy, each.since, each.last_error[:_LONGEST_TEXT]]
            for each in report.endpoints[:_MOST_ENDPOINTS]
        ],
    }
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Report:
    """Read a line that a worker sent.

    Raises:
        ReportError: it is no report.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):  # UnicodeDecodeError included
        raise ReportError("it is not JSON") from None
    if not isinstance(data, dict):
        raise ReportError("it is not a JSON object")
    try:
        return _report(data)
    except (AttributeError, KeyError, TypeError, ValueError):
        # Their messages may repeat what the worker sent.
        raise ReportError("a value is missing or has the wrong form") from None


def _report(data: dict[str, Any]) -> Report:
    ports = data["ports"].items()
    endpoints = data["endpoints"]
    if len(ports) > _MOST_PORTS or len(endpoints) > _MOST_ENDPOINTS:
        raise ReportError("it has more ports or endpoints than there can be")
    counts = Counts(
        requests={
            (_number(status, 999), _one_of(CAUSES, cause)): _number(count)
            for status, cause, count in data["requests"]
        },
        duration=_histogram(data["duration"]),
        first_byte=_histogram(data["first_byte"]),
        ports={
            _text(port_id): PortActivity(
                _number(count), _number(status, 999), _one_of(CAUSES, cause)
            )
            for port_id, (count, status, cause) in ports
        },
        accepted=_number(data["accepted"]),
        refused={
            _one_of(REFUSALS, cause): _number(count) for cause, count in data["refused"].items()
        },
    )
    return Report(
        counts=counts,
        lines_dropped=_number(data["lines_dropped"]),
        connections=_number(data["connections"]),
        endpoints=tuple(
            EndpointHealth(_text(url), healthy is True, _seconds(since), _text(error))
            for url, healthy, since, error in endpoints
        ),
    )


def _number(value: object, largest: int = _LARGEST) -> int:
    if type(value) is not int or not 0 <= value <= largest:
        raise ReportError(f"a number is not an integer from 0 to {largest}")
    return value


def _one_of(known: frozenset[str], value: object) -> str:
    if not isinstance(value, str) or value not in known:
        raise ReportError("a cause is not known")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ReportError(f"a text is none, or over {_LONGEST_TEXT} characters")
    value.encode()  # raises ValueError for half a surrogate pair, which nobody could print
    return value


def _histogram(value: object) -> Histogram:
    if not isinstance(value, list):
        raise ReportError("a histogram is no list")
    counts, total = value
    if len(counts) != len(BUCKETS) + 1:
        raise ReportError(f"a histogram has not {len(BUCKETS) + 1} buckets")
    return Histogram(tuple(_number(count) for count in counts), _seconds(total))


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        raise ReportError("a time is not a number that can be")
    return float(value)
