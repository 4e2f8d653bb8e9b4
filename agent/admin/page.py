"""The status page: how this host is, for people, in one HTML document.

It needs nothing else: no script, no font, no other file. It reloads itself every few seconds,
unless the request asks it not to. The template escapes its values for HTML, and `render` escapes
what is not printable; charts hold numbers only.
"""

import base64
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tornado.template import Loader

from ovs_metadata.agent.admin import chart
from ovs_metadata.agent.admin.history import Interval
from ovs_metadata.agent.admin.status import HostStatus
from ovs_metadata.agent.certificates import Certificate
from ovs_metadata.agent.health import SOON, AgentView
from ovs_metadata.agent.health_state import ChildState, HealthState, child_state
from ovs_metadata.agent.response_class import in_words, is_failure, last_response
from ovs_metadata.host.address import ofport_at, place_of_address
from ovs_metadata.quantities import count_of, shown_seconds
from ovs_metadata.untrusted import escaped
from ovs_metadata.utc import utc

REFRESH = 5
"""Seconds after which the page reloads."""

MAX_PORTS = 1000
"""Rows of the table of ports; the rest are counted."""

_FILES = Path(__file__).parent / "templates"
_CSS = (_FILES / "status.css").read_text(encoding="utf-8")
_TEMPLATE = Loader(str(_FILES)).load("status.html")


def _hash_of(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


POLICY = (
    f"default-src 'none'; style-src 'sha256-{_hash_of(_CSS)}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: nothing but its own style sheet, not even in a frame."""


_STATES = {
    HealthState.READY.value: ("✔", "serving metadata", "good"),
    HealthState.NOT_READY.value: ("!", "serving metadata, not ready for new instances", "doubt"),
    HealthState.NOT_SERVING.value: ("✘", "not serving metadata", "bad"),
    HealthState.DISABLED.value: ("–", "disabled", "doubt"),  # noqa: RUF001 - a dash
}
"""Mark, words and class of each state."""

_CHILDREN_STATES = {
    ChildState.RUNNING: ("✔ running", "good"),
    ChildState.HANGS: ("✘ hangs", "bad"),
    ChildState.ENDED: ("✘ ended, about to be started again", "bad"),
}
"""Words and class of each state of a child process."""


class FailureRow(NamedTuple):
    """How often requests failed in one way."""

    status: int
    cause: str
    requests: int


class PortRow(NamedTuple):
    """A port as the page shows it."""

    port_id: str
    instance_id: str
    fixed_ip: str
    ofport: int | None
    addresses: list[str]
    state: str
    reason: str
    requests: int
    last_response: str
    last_failed: bool
    last_time: str


class CertificateRow(NamedTuple):
    """A certificate as the page shows it."""

    use: str
    place: str
    expires: str
    tone: str


def render(status: HostStatus, *, refreshed: bool = True) -> bytes:
    """Return the page in UTF-8; `refreshed`: whether it reloads itself."""
    intervals = status.history.intervals()
    ports = port_rows(status.statistics.ports())
    return _TEMPLATE.generate(
        status=_printable(status.document()),
        css=_CSS,
        states=_STATES,
        child_state=child_state,
        children_states=_CHILDREN_STATES,
        refresh=REFRESH if refreshed else None,
        rate_chart=chart.rate_chart(intervals),
        latency_chart=chart.latency_chart(intervals),
        shown_seconds=shown_seconds,
        count_of=count_of,
        failures=_printable(failure_rows(intervals)),
        ports=_printable(ports[:MAX_PORTS]),
        more_ports=len(ports[MAX_PORTS:]),
        reconciles=status.view().reconciliation is not None,
        certificates=_printable(certificate_rows(status.view())),
    )


def _printable(value: Any) -> Any:
    """A value with each text in it on one line of printable characters."""
    match value:
        case str():
            return escaped(value)
        case dict():
            return {name: _printable(each) for name, each in value.items()}
        case list():
            return [_printable(each) for each in value]
        case tuple() if hasattr(value, "_make"):
            return value._make(map(_printable, value))
    return value


def failure_rows(intervals: list[Interval]) -> list[FailureRow]:
    """In which ways requests failed, the most frequent first."""
    found: Counter[tuple[int, str]] = Counter()
    for each in intervals:
        found.update({key: count for key, count in each.requests.items() if is_failure(*key)})
    return [
        FailureRow(status, in_words(cause), count) for (status, cause), count in found.most_common()
    ]


def certificate_rows(view: AgentView) -> list[CertificateRow]:
    """The certificates, the first to expire first."""
    return [
        _certificate_row(each, view.time)
        for each in sorted(view.certificates, key=lambda each: each.until)
    ]


def _certificate_row(certificate: Certificate, now: float) -> CertificateRow:
    use, until = certificate.use.replace("_", " "), utc(certificate.until)
    if certificate.until <= now:
        return CertificateRow(use, certificate.place, f"✘ expired on {until}", "bad")
    if certificate.until < now + SOON:
        return CertificateRow(use, certificate.place, f"! expires on {until}", "doubt")
    return CertificateRow(use, certificate.place, until, "good")


def port_rows(ports: list[dict[str, Any]]) -> list[PortRow]:
    """Return rows of `HostStatistics.ports`: pending ports first, then by when they last asked."""
    latest_first = sorted(ports, key=lambda port: port["last_time"] or "", reverse=True)
    return [_port_row(port) for port in sorted(latest_first, key=lambda port: not port["reason"])]


def _port_row(port: dict[str, Any]) -> PortRow:
    status = port["last_status"]
    place = place_of_address(port["addresses"][0])
    return PortRow(
        port_id=port["port_id"],
        instance_id=port["instance_id"] or "",
        fixed_ip=port["fixed_ip"] or "",
        ofport=None if place is None else ofport_at(place),
        addresses=port["addresses"],
        state=port["state"],
        reason=port["reason"] or "",
        requests=port["requests"],
        last_response=last_response(port),
        last_failed=status is not None and is_failure(status, port["last_cause"]),
        last_time=port["last_time"] or "",
    )
