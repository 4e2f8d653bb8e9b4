"""Reports of workers: what they hold, and that nothing a worker sends can do harm."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.proxy.accounting.report import (
    BUCKETS,
    CAUSES,
    MAX_COUNT,
    MAX_LINE,
    MAX_PORTS,
    REFUSALS,
    Counts,
    Histogram,
    PortActivity,
    Report,
    ReportError,
    decode,
    encode,
)
from ovs_metadata.proxy.accounting.statistics import Statistics
from ovs_metadata.proxy.nova.health import EndpointHealth

numbers = st.integers(0, MAX_COUNT)
statuses = st.integers(0, 999)
causes = st.sampled_from(sorted(CAUSES))
seconds = st.floats(0, 1e9)
printable = st.text(max_size=9).filter(str.isprintable)
histograms = st.builds(Histogram, st.tuples(*[numbers] * (len(BUCKETS) + 1)), seconds)
reports = st.builds(
    Report,
    counts=st.builds(
        Counts,
        requests=st.dictionaries(st.tuples(statuses, causes), numbers),
        duration=histograms,
        first_byte=histograms,
        ports=st.dictionaries(
            st.uuids().map(str), st.builds(PortActivity, numbers, statuses, causes)
        ),
        accepted=numbers,
        refused=st.dictionaries(st.sampled_from(sorted(REFUSALS)), numbers),
    ),
    lines_dropped=numbers,
    agent_silent=numbers,
    connections=numbers,
    endpoints=st.lists(st.builds(EndpointHealth, printable, st.booleans(), seconds, printable)).map(
        tuple
    ),
)


@given(report=reports)
def test_a_report_is_one_line_and_comes_back_the_same(report: Report) -> None:
    line = encode(report)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == report


@given(line=st.binary(max_size=60))
def test_any_bytes_are_a_report_or_a_report_error(line: bytes) -> None:
    with pytest.raises(ReportError):
        decode(line)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(
    key=st.sampled_from(sorted(json.loads(encode(Report(counts=Statistics().take()))))), v=values
)
def test_any_value_anywhere_is_read_or_refused(key: str, v: Any) -> None:
    data = json.loads(encode(Report(counts=Statistics().take())))
    data[key] = v
    try:
        report = decode(json.dumps(data).encode())
    except ReportError:
        return
    assert decode(encode(report)) == report


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"accepted": -1}, "not an integer from 0"),
        ({"accepted": 1.5}, "not an integer from 0"),
        ({"accepted": True}, "not an integer from 0"),
        ({"accepted": MAX_COUNT + 1}, "not an integer from 0"),
        ({"requests": [[1000, "answered", 1]]}, "not an integer from 0 to 999"),
        ({"requests": [[200, ["answered"], 1]]}, "a cause is no text"),
        ({"requests": [[200, "answered", 1]] * 4097}, "more responses"),
        ({"requests": [[200, "answered"]]}, "wrong form"),
        ({"duration": [[1], 0]}, "has not 16 buckets"),
        ({"duration": [[0] * 16, float("nan")]}, "not JSON"),
        ({"duration": [[0] * 16, float("inf")]}, "not JSON"),
        ({"duration": [[0] * 16, -1]}, "a time"),
        ({"ports": {"x" * 513: [1, 200, "answered"]}}, "over 512 characters"),
        ({"ports": {str(n): [1, 200, "answered"] for n in range(4097)}}, "more responses, ports"),
        ({"ports": None}, "wrong form"),
        ({"endpoints": [["http://a", True, 0, "x" * 513]]}, "over 512 characters"),
        ({"endpoints": [["http://a", True, 0, ""]] * 65}, "ports or endpoints"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], complaint: str) -> None:
    data = json.loads(encode(Report(counts=Statistics().take())))
    with pytest.raises(ReportError, match=complaint):
        decode(json.dumps(data | change).encode())


@pytest.mark.parametrize("line", [b"[" * 100_000, b"1" * 100_000, b'{"a":' * 50_000])
def test_what_upsets_json_readers_is_refused(line: bytes) -> None:
    with pytest.raises(ReportError):
        decode(line)


def test_what_a_worker_sent_is_not_repeated() -> None:
    data = json.loads(encode(Report(counts=Statistics().take())))
    data["requests"] = [["secret-of-mine", "answered", 1]]
    with pytest.raises(ReportError) as refused:
        decode(json.dumps(data).encode())
    assert "secret-of-mine" not in str(refused.value)


def test_the_longest_report_fits_a_line() -> None:
    statistics = Statistics()
    for number in range(MAX_PORTS + 1):
        cause = max(CAUSES, key=len)
        statistics.request_done(f"{number:036}", 503, cause, 0.1, 0.1)
    error = EndpointHealth("http://" + "\x00" * 1000, False, 1.0, "\x00" * 1000)
    line = encode(Report(counts=statistics.take(), endpoints=(error,) * 100))
    assert len(line) < MAX_LINE
    assert len(decode(line).counts.ports) == MAX_PORTS
