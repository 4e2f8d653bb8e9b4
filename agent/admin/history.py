"""The last ten minutes of this host: how many requests, and how long they took. Values.

Samples of the totals at regular intervals; what happened between two of them is their difference.
On the agent's event loop.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from ovs_metadata.agent.admin.statistics import Totals
from ovs_metadata.agent.response_class import is_failure
from ovs_metadata.proxy.accounting.report import BUCKETS, Histogram

INTERVAL = 5.0
"""Seconds between two samples."""

WINDOW = 600.0
"""Seconds that the history covers."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The totals at one moment; `time` is monotonic."""

    time: float
    requests: Mapping[tuple[int, str], int]
    first_byte: Histogram


def sample(totals: Totals, now: float) -> Sample:
    """Return the totals as they are."""
    return Sample(now, dict(totals.requests), totals.first_byte)


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two moments. Times are monotonic, in seconds."""

    start: float
    end: float
    requests: Mapping[tuple[int, str], int]
    """By status and cause; none that did not occur."""
    first_byte: Histogram

    @property
    def total(self) -> int:
        """How many requests there were."""
        return sum(self.requests.values())

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(count for key, count in self.requests.items() if is_failure(*key))

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.total / (self.end - self.start)

    @property
    def failed_rate(self) -> float:
        """Failed requests per second."""
        return self.failed / (self.end - self.start)

    def quantile(self, share: float) -> float | None:
        """Seconds within which that share of requests had its answer's first byte."""
        return quantile(self.first_byte, share)


def between(before: Sample, after: Sample) -> Interval:
    """Return what happened between two samples."""
    grown = {key: count - before.requests.get(key, 0) for key, count in after.requests.items()}
    counts = zip(after.first_byte.counts, before.first_byte.counts, strict=True)
    return Interval(
        start=before.time,
        end=after.time,
        requests={key: count for key, count in grown.items() if count},
        first_byte=Histogram(
            tuple(late - early for late, early in counts),
            after.first_byte.sum - before.first_byte.sum,
        ),
    )


def quantile(histogram: Histogram, share: float) -> float | None:
    """Estimate a quantile, taking the times to be spread evenly within each bucket.

    It is what Prometheus' histogram_quantile says. None if nothing was counted; what is beyond the
    last bucket counts as its end.
    """
    wanted = share * sum(histogram.counts)
    if not wanted:
        return None
    lower = 0.0
    for upper, count in zip(BUCKETS, histogram.counts, strict=False):
        if count and wanted <= count:
            return lower + (upper - lower) * wanted / count
        wanted -= count
        lower = upper
    return BUCKETS[-1]


class History:
    """The samples of the last `WINDOW` seconds, the oldest first."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=round(WINDOW / INTERVAL) + 1)

    def add(self, new: Sample) -> None:
        """Take in a sample that is later than all there are."""
        self._samples.append(new)

    def intervals(self) -> list[Interval]:
        """Return what happened between each two samples."""
        return [between(*pair) for pair in pairwise(self._samples)]

    def last(self, seconds: float) -> Interval | None:
        """Return what happened in the last seconds, or since there are samples; None without."""
        if len(self._samples) < 2:
            return None
        latest = self._samples[-1]
        # Timers are late, never early: without a little grace an interval would be missed.
        oldest = latest.time - seconds - INTERVAL / 2
        return between(next(each for each in self._samples if each.time >= oldest), latest)
