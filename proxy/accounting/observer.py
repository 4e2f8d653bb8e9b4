"""The one place that counts and logs every request.

Belongs to the event loop's thread and lives as long as the worker. Every request passes here, so
there are plain numbers, and no logging module.
"""

from dataclasses import dataclass

from ovs_metadata.logs import LineWriter, standard_error
from ovs_metadata.proxy.accounting.access_log import (
    TEMPLATES,
    Clock,
    quote_method,
    quote_name,
    quote_path,
)
from ovs_metadata.proxy.accounting.report import ANSWERED
from ovs_metadata.proxy.accounting.statistics import Statistics
from ovs_metadata.proxy.control.settings import Settings

DOCTOR_IPV4 = "127.169.254.208"
"""Where the doctor asks from in a guest's stead; no request from there is the guest's own."""


@dataclass(slots=True)
class Outcome:
    """A request that is over. Times are by `time.monotonic`: uvloop's clock has milliseconds."""

    # It is not frozen, which would cost a call for each field.
    peer: str
    """The address that the guest asks from."""
    address: str
    """The port address."""
    port_id: str
    """The port behind it; empty if there is none."""
    instance_id: str
    """The instance; empty if it is not known."""
    method: bytes
    """The method as the guest wrote it; empty if it could not be read."""
    target: bytes
    """The target as the guest wrote it; empty if it could not be read."""
    status: int
    """The status that the guest got; 0 for none."""
    cause: str | None
    """Why Nova's response was not passed on: a name of `ProxyError`, `report.OTHER_CAUSES` or
    `report.OWN_ANSWERS`. None if it was."""
    bytes_sent: int
    """Bytes of the response written to the guest."""
    started: float
    """When the whole request had arrived."""
    first_byte: float
    """When the response began; 0.0 if it did not."""
    ended: float
    """When the request was over."""
    request_id: bytes = b""
    """The request's id; empty if it has none."""


class Observer:
    """Counts requests and writes the access log, to standard error if there is no `writer`."""

    def __init__(self, settings: Settings, writer: LineWriter | None = None) -> None:
        self.statistics = Statistics()
        self._writer = writer or standard_error()
        self._clock = Clock()
        self._template = TEMPLATES[settings.access_log]

    @property
    def lines_dropped(self) -> int:
        """The number of log lines that were dropped so far, in the access log or elsewhere."""
        return self._writer.dropped

    def apply(self, settings: Settings) -> None:
        """Log in the form of these settings from now on."""
        self._template = TEMPLATES[settings.access_log]

    def request_done(self, outcome: Outcome) -> None:
        """Count and log a request."""
        cause, first_byte = outcome.cause, outcome.first_byte
        why = cause.lower() if cause else ANSWERED
        duration = outcome.ended - outcome.started
        waited = first_byte - outcome.started if first_byte else None
        # What the doctor asks is no request of the guest whose port it uses.
        port_id = "" if outcome.peer == DOCTOR_IPV4 else outcome.port_id
        self.statistics.request_done(
            port_id, outcome.status, why, duration, waited, source=outcome.peer
        )
        template = self._template
        if template:
            self._writer.write(
                template
                % (
                    self._clock.now(),
                    outcome.peer,
                    outcome.address,
                    quote_name(outcome.port_id),
                    quote_name(outcome.instance_id),
                    quote_method(outcome.method),
                    quote_path(outcome.target),
                    outcome.status,
                    outcome.bytes_sent,
                    duration * 1000,
                    "null" if waited is None else f"{waited * 1000:.3f}",
                    outcome.request_id.decode("ascii"),
                    why,
                )
            )

    def connection_opened(self) -> None:
        """Count a connection that was accepted."""
        self.statistics.accepted += 1

    def connection_refused(self, cause: str) -> None:
        """Count a connection that was refused, by a name of `report.REFUSALS`."""
        self.statistics.connection_refused(cause.lower())

    def flush(self) -> None:
        """Write the waiting log lines, as many as the output takes."""
        self._writer.flush()
