"""The counters of a worker: requests, their times, the last response to each port.

They are plain numbers, because every request passes here. They belong to the event loop's thread
and live as long as the worker; `take` returns the counts since the last call.
"""

from bisect import bisect_left

from ovs_metadata.proxy.accounting.report import BUCKETS, MAX_PORTS, Counts, Histogram, PortActivity


class Statistics:
    """Counts requests and connections. Times are in seconds."""

    def __init__(self) -> None:
        self._requests: dict[tuple[int, str], int] = {}
        self._duration = _Durations()
        self._first_byte = _Durations()
        self._ports: dict[str, tuple[int, int, str, str]] = {}
        self._refused: dict[str, int] = {}
        self.accepted = 0
        """Connections accepted since the last `take`."""

    def request_done(
        self,
        port_id: str,
        status: int,
        cause: str,
        duration: float,
        first_byte: float | None,
        *,
        source: str = "",
    ) -> None:
        """Count a request; `port_id` is empty if the port is unknown. source: who asked."""
        key = status, cause
        requests = self._requests
        requests[key] = requests.get(key, 0) + 1
        self._duration.add(duration)
        if first_byte is not None:
            self._first_byte.add(first_byte)
        if port_id:
            before = self._ports.get(port_id)
            self._ports[port_id] = (before[0] + 1 if before else 1), status, cause, source

    def connection_refused(self, cause: str) -> None:
        """Count a connection that was refused for one of `report.REFUSALS`."""
        self._refused[cause] = self._refused.get(cause, 0) + 1

    def take(self) -> Counts:
        """Return the counts since the last call, and restart at zero."""
        some = list(self._ports)[:MAX_PORTS]
        counts = Counts(
            requests=self._requests,
            duration=self._duration.take(),
            first_byte=self._first_byte.take(),
            ports={port_id: PortActivity(*self._ports.pop(port_id)) for port_id in some},
            accepted=self.accepted,
            refused=self._refused,
        )
        self._requests, self._refused, self.accepted = {}, {}, 0
        return counts


class _Durations:
    """A histogram that grows."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def take(self) -> Histogram:
        taken = Histogram(tuple(self._counts), self._sum)
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0
        return taken
