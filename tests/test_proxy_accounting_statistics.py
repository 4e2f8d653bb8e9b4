"""Counting requests, and handing over what was counted."""

import pytest

from ovs_metadata.proxy.accounting.report import BUCKETS, MAX_PORTS, Histogram
from ovs_metadata.proxy.accounting.statistics import Statistics


def test_what_was_taken_is_not_counted_again() -> None:
    statistics = Statistics()
    statistics.request_done("port", 200, "answered", 0.5, 0.25)
    statistics.accepted += 1
    statistics.connection_refused("port_limit")
    first = statistics.take()
    assert first.requests == {(200, "answered"): 1}
    nothing = statistics.take()
    assert (nothing.requests, nothing.ports, nothing.refused, nothing.accepted) == ({}, {}, {}, 0)
    assert nothing.duration == nothing.first_byte == Histogram()
    # And what was taken stays as it was.
    statistics.request_done("port", 200, "answered", 0.5, 0.25)
    assert first.requests == {(200, "answered"): 1}
    assert sum(first.duration.counts) == 1


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (60.0, len(BUCKETS) - 1), (60.1, len(BUCKETS))],
)
def test_a_time_is_in_the_bucket_it_does_not_exceed(seconds: float, bucket: int) -> None:
    statistics = Statistics()
    statistics.request_done("port", 200, "answered", seconds, seconds)
    counts = statistics.take()
    assert counts.duration == counts.first_byte
    assert counts.duration.sum == seconds
    assert [index for index, count in enumerate(counts.duration.counts) if count] == [bucket]


def test_ports_beyond_those_of_one_report_come_with_the_next() -> None:
    statistics = Statistics()
    for number in range(MAX_PORTS + 10):
        statistics.request_done(f"port-{number}", 200, "answered", 0.1, 0.1)
    first, second = statistics.take(), statistics.take()
    assert (len(first.ports), len(second.ports)) == (MAX_PORTS, 10)
    assert first.requests == {(200, "answered"): MAX_PORTS + 10}
