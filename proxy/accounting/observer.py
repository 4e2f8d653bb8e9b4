"""The one place that is told of every request: counts it and logs it.

Belongs to the event loop's thread and lives as long as the worker. Every request passes here, so
there are positional arguments, plain numbers, and no logging module.
"""

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


class Observer:
    """Counts requests and writes the access log, to standard error if there is no `writer`."""

    def __init__(self, settings: Settings, writer: LineWriter | None = None) -> None:
        self.statistics = Statistics()
        self._writer = writer or standard_error()
        self._clock = Clock()
        self._template = TEMPLATES[settings.access_log]

    @property
    def lines_dropped(self) -> int:
        """Lines of the log, the access log among it, that nobody took, so far."""
        return self._writer.dropped

    def apply(self, settings: Settings) -> None:
        """Log in the form these settings say, from now on."""
        self._template = TEMPLATES[settings.access_log]

    def request_done(  # noqa: PLR0917 - keywords would double the cost of the call
        self,
        address: str,
        port_id: str,
        instance_id: str,
        method: bytes,
        target: bytes,
        status: int,
        cause: str | None,
        bytes_sent: int,
        started: float,
        first_byte: float,
        ended: float,
        request_id: bytes,
    ) -> None:
        """Count and log a request.

        Args:
            address: the peer address.
            port_id: the port behind it; empty if there is none.
            instance_id: the instance; empty if it is not known.
            method: as the guest wrote it; empty if it could not be read.
            target: likewise.
            status: the status the guest was sent; 0 for none.
            cause: why Nova's response was not passed on, a name of `ProxyError` or of
                `report.OTHER_CAUSES`; None if it was.
            bytes_sent: bytes of response written to the guest.
            started: when the whole request was there, by `time.monotonic` (uvloop's own clock is
                only as fine as a millisecond).
            first_byte: when the response began; 0.0 if it did not.
            ended: when it was over.
            request_id: the request's id; empty if it has none.
        """
        why = cause.lower() if cause else ANSWERED
        duration = ended - started
        waited = first_byte - started if first_byte else None
        self.statistics.request_done(port_id, status, why, duration, waited)
        template = self._template
        if template:
            self._writer.write(
                template
                % (
                    self._clock.now(),
                    address,
                    quote_name(port_id),
                    quote_name(instance_id),
                    quote_method(method),
                    quote_path(target),
                    status,
                    bytes_sent,
                    duration * 1000,
                    "null" if waited is None else f"{waited * 1000:.3f}",
                    request_id.decode("ascii"),
                    why,
                )
            )

    def connection_opened(self) -> None:
        """Count a connection that was accepted."""
        self.statistics.accepted += 1

    def connection_refused(self, cause: str) -> None:
        """Count a connection that was turned away: a name of `report.REFUSALS`."""
        self.statistics.connection_refused(cause.lower())

    def flush(self) -> None:
        """Write the log lines that wait, as far as they are taken."""
        self._writer.flush()
