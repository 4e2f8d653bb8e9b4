"""The report of a reconciliation: what is written is read, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.store.reconciliation import (
    ACTIONS,
    LATE_AFTER,
    MAX_REPORT,
    MAX_TIME,
    NEVER,
    ReconciliationReport,
    read_report,
)

COUNTS = st.dictionaries(st.sampled_from(ACTIONS), st.integers(0, 10**9))
SECONDS = st.floats(0, MAX_TIME)

REPORTS = st.builds(
    ReconciliationReport,
    server=st.just("ctl-1"),
    time=SECONDS,
    duration=SECONDS,
    interval=SECONDS,
    ports=COUNTS,
    networks=COUNTS,
)

OURS: dict[str, Any] = {
    "server": "ctl-1",
    "time": 1000,
    "duration": 1.5,
    "interval": 300,
    "ports": {"right": 3, "added": 1},
    "networks": {},
}


@given(REPORTS)
def test_what_is_written_is_read(report: ReconciliationReport) -> None:
    data = report.to_json()
    assert len(data) <= MAX_REPORT
    assert read_report(data) == report


def test_what_a_later_release_adds_is_ignored() -> None:
    later = {**OURS, "more": [1], "ports": {**OURS["ports"], "moved": {"x": 1}}}
    assert read_report(json.dumps(later).encode()) == read_report(json.dumps(OURS).encode())


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in OURS),
        *({"time": value} for value in (-1, True, "now", 1e12, 10**400)),
        {"duration": -0.1},
        {"interval": 1e12},
        {"server": "x" * 300},
        {"server": "a\nb"},
        *({"ports": {"right": value}} for value in (-1, 1.5, True, "3", 10**400, None)),
        {"networks": []},
    ],
    ids=str,
)
def test_a_document_that_is_no_report_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        read_report(json.dumps({**OURS, **changes}).encode())


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"null", b"\xff", b" " * (MAX_REPORT + 1), b"[" * 2000]
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        read_report(data)


@given(st.binary(max_size=300))
def test_any_content_is_a_report_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_report(data)


def test_a_reconciliation_is_late_after_some_intervals() -> None:
    report = ReconciliationReport("ctl-1", time=1000.0, interval=300.0)
    assert not report.is_late(1000 + LATE_AFTER * 300)
    assert report.is_late(1001 + LATE_AFTER * 300)
    assert not NEVER.is_late(1e9)
