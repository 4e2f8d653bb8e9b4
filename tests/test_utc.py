"""One notation of time in all that the product prints."""

import logging
import re

import pytest

from ovs_metadata import logs
from ovs_metadata.proxy.accounting.access_log import Clock
from ovs_metadata.utc import utc

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


@pytest.mark.parametrize(
    ("seconds", "text", "milliseconds"),
    [
        (0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        (1801439999.9999, "2027-01-31T23:59:59Z", "2027-01-31T23:59:59.999Z"),
        (1801440000.25, "2027-02-01T00:00:00Z", "2027-02-01T00:00:00.250Z"),
    ],
)
def test_times_are_iso_8601_in_utc(seconds: float, text: str, milliseconds: str) -> None:
    assert utc(seconds) == text
    assert utc(seconds, milliseconds=True) == milliseconds


def test_the_access_log_has_the_same_notation() -> None:
    assert TIME.fullmatch(Clock().now())


def test_log_lines_have_the_same_notation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    record = logging.LogRecord("name", logging.INFO, "", 0, "message", None, None)
    record.created = 1801440000.25
    line = logs.LineFormatter(logs.FORMAT).format(record)
    assert line == "2027-02-01T00:00:00.250Z INFO name: message"
