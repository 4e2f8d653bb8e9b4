"""Reports: a worker sends its counts to the agent.

A report is one JSON object on a line, over the feed's socket pair, from the worker to the agent,
about once a second. Counts are those since the last report, so none is lost or counted twice when
another worker replaces this one; connections and endpoints are the present ones:

    {"requests": [[status, cause, count], …],
     "duration": [[count per bucket …], sum], "first_byte": [[…], sum],
     "ports": {port id: [count, last status, last cause], …},
     "sources": {port id: the address that asked last, …},
     "accepted": n, "refused": {cause: n}, "lines_dropped": n,
     "agent_silent": seconds,
     "connections": n, "endpoints": [[url, healthy, since, last error], …],
     "certificates": [end of the certificate of each endpoint, or null, …]}

`healthy` is null until the worker has tried the endpoint.

A worker talks to guests, so the agent does not trust a report. Every output may show what `decode`
returns: each value has a type, a range and a bound, each time is in the calendar, and each text is
printable. An unknown cause counts as `OTHER`.
"""

import json
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.nova.health import EndpointHealth
from ovs_metadata.untrusted import escaped, parse_json

MAX_LINE = 1024 * 1024
"""The longest report the agent reads, in bytes."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the buckets of a histogram, in seconds; one without end follows."""

ANSWERED = "answered"
"""The cause of a response that is Nova's own."""

OTHER_CAUSES = ("guest_gone", "cut_off")
"""Why a response is missing or incomplete, besides the errors: the guest left; or the proxy cut it
off, because the port's identity changed or Nova's response broke off."""

OWN_ANSWERS = ("token_issued", "token_options", "options_shown")
"""The causes of responses of the proxy's own that are no errors."""

OTHER = "other"
"""The cause in place of every unknown one."""

CAUSES = frozenset(
    {
        *(ANSWERED, OTHER),
        *OTHER_CAUSES,
        *OWN_ANSWERS,
        *(error.name.lower() for error in ProxyError),
    }
)

REFUSALS = frozenset({"port_limit", "worker_limit", OTHER})
"""Why a connection is refused: too many of its port, or too many of all ports together."""

MAX_PORTS = 4096
"""Ports in one report; the others are in the next. It bounds the length of a report."""

MAX_COUNT = 10**9
"""The maximum of a count. A worker whose reports wait for an hour does not reach it."""

LATEST = 253_402_300_799.0
"""The latest time, in seconds since the epoch: the end of the year 9999, and of calendars."""

_MAX_SUM = 2.0**53
_MAX_REQUESTS = 4096
_MAX_ENDPOINTS = 64
_MAX_TEXT = 512
_MAX_ADDRESS = 64


_Key = TypeVar("_Key")


class ReportError(Exception):
    """A line is no report; the message has the fault, and no text of the line."""


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
    """The requests of a port, and its last response. source: the address that it went to."""

    requests: int
    status: int
    cause: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The counts since the last report."""

    requests: Mapping[tuple[int, str], int]
    """By status and cause."""
    duration: Histogram
    first_byte: Histogram
    ports: Mapping[str, PortActivity]
    accepted: int
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report of a worker."""

    counts: Counts
    lines_dropped: int = 0
    agent_silent: int = 0
    """Seconds without a heartbeat of the agent, since the last report."""
    connections: int = 0
    endpoints: tuple[EndpointHealth, ...] = ()

    def about(self, urls: Container[str]) -> "Report":
        """Return the report with only these endpoints."""
        return replace(self, endpoints=tuple(each for each in self.endpoints if each.url in urls))


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
        "sources": {port_id: port.source for port_id, port in counts.ports.items()},
        "accepted": counts.accepted,
        "refused": counts.refused,
        "lines_dropped": report.lines_dropped,
        "agent_silent": report.agent_silent,
        "connections": report.connections,
        "endpoints": [
            [each.url[:_MAX_TEXT], each.healthy, each.since, each.last_error[:_MAX_TEXT]]
            for each in report.endpoints[:_MAX_ENDPOINTS]
        ],
        "certificates": [each.certificate_until for each in report.endpoints[:_MAX_ENDPOINTS]],
    }
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Report:
    """Parse a line of a worker.

    Raises:
        ReportError: it is no report.
    """
    try:
        data = parse_json(line, MAX_LINE)
    except (ValueError, RecursionError):  # UnicodeDecodeError included
        raise ReportError("it is not JSON") from None
    if not isinstance(data, dict):
        raise ReportError("it is not a JSON object")
    try:
        return _report(data)
    except (AttributeError, KeyError, TypeError, ValueError):
        # Their messages may repeat text of the worker.
        raise ReportError("a value is missing or has the wrong form") from None


def _report(data: dict[str, Any]) -> Report:
    requests = _at_most(_MAX_REQUESTS, data["requests"])
    ports = _at_most(MAX_PORTS, data["ports"].items())
    sources = data.get("sources", {})  # a worker of an earlier release has none
    endpoints = _at_most(_MAX_ENDPOINTS, data["endpoints"])
    # A worker of an earlier release has none.
    ends = [*_at_most(_MAX_ENDPOINTS, data.get("certificates", [])), *[None] * len(endpoints)]
    refused = _at_most(_MAX_REQUESTS, data["refused"].items())
    counts = Counts(
        requests=_sums(
            ((_number(status, 999), _one_of(CAUSES, cause)), _number(count))
            for status, cause, count in requests
        ),
        duration=_histogram(data["duration"]),
        first_byte=_histogram(data["first_byte"]),
        ports={
            _text(port_id): PortActivity(
                *(_number(count), _number(status, 999), _one_of(CAUSES, cause)),
                _text(sources.get(port_id, ""))[:_MAX_ADDRESS],
            )
            for port_id, (count, status, cause) in ports
        },
        accepted=_number(data["accepted"]),
        refused=_sums((_one_of(REFUSALS, cause), _number(count)) for cause, count in refused),
    )
    return Report(
        counts=counts,
        lines_dropped=_number(data["lines_dropped"]),
        agent_silent=_number(data["agent_silent"]),
        connections=_number(data["connections"]),
        endpoints=tuple(
            EndpointHealth(
                _text(url),
                None if healthy is None else healthy is True,
                _seconds(since, LATEST),
                _text(error),
                None if end is None else _seconds(end, LATEST),
            )
            for (url, healthy, since, error), end in zip(endpoints, ends, strict=False)
        ),
    )


def _at_most(most: int, values: Collection[Any]) -> Collection[Any]:
    if len(values) > most:
        raise ReportError("it has more responses, ports or endpoints than there can be")
    return values


def _sums(counted: Iterable[tuple[_Key, int]]) -> dict[_Key, int]:
    """Return the counts by key; counts of one key are added up."""
    sums: Counter[_Key] = Counter()
    for key, count in counted:
        sums[key] += count
    return dict(sums)


def _number(value: object, largest: int = MAX_COUNT) -> int:
    if type(value) is not int or not 0 <= value <= largest:
        raise ReportError(f"a number is not an integer from 0 to {largest}")
    return value


def _one_of(known: frozenset[str], value: object) -> str:
    if not isinstance(value, str):
        raise ReportError("a cause is no text")
    return value if value in known else OTHER


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ReportError(f"a text is none, or over {_MAX_TEXT} characters")
    return escaped(value)[:_MAX_TEXT]


def _histogram(value: object) -> Histogram:
    if not isinstance(value, list):
        raise ReportError("a histogram is no list")
    counts, total = value
    if len(counts) != len(BUCKETS) + 1:
        raise ReportError(f"a histogram has not {len(BUCKETS) + 1} buckets")
    return Histogram(tuple(_number(count) for count in counts), _seconds(total, _MAX_SUM))


def _seconds(value: object, largest: float) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ReportError("a time is not a number that can be")
    return float(value)
