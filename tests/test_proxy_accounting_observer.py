"""Each request is counted, and is a line of the access log."""

import json
import os
import re
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.logs import LineWriter
from ovs_metadata.proxy.accounting.access_log import MAX_PATH, Clock, quote_method, quote_path
from ovs_metadata.proxy.accounting.observer import Observer, Outcome
from ovs_metadata.proxy.accounting.report import PortActivity
from ovs_metadata.proxy.control.settings import Settings

PRINTABLE = re.compile(r"[ -~]*")


class Log:
    """An observer, and the log it writes."""

    def __init__(self, form: str) -> None:
        self.reader, self.output = os.pipe()
        os.set_blocking(self.reader, False)
        self.observer = Observer(Settings(access_log=form), LineWriter(self.output))

    def lines(self) -> list[str]:
        self.observer.flush()
        try:
            return os.read(self.reader, 1 << 20).decode("ascii").splitlines()
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.output)


@pytest.fixture(params=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    log = Log(request.param)
    yield log
    log.close()


def tell(observer: Observer, **changes: Any) -> None:
    """Tell of a request; `changes` are what is not as usual."""
    outcome: dict[str, Any] = {
        "peer": "10.0.0.5",
        "address": "169.254.0.5",
        "port_id": "port-5",
        "instance_id": "instance-5",
        "method": b"GET",
        "target": b"/openstack/latest/?x=1",
        "status": 200,
        "cause": None,
        "bytes_sent": 1234,
        "started": 10.0,
        "first_byte": 10.002,
        "ended": 10.0035,
        "request_id": b"req-1",
        **changes,
    }
    observer.request_done(Outcome(**outcome))


def fields(line: str) -> dict[str, Any]:
    """The fields of a line of either form, each as text."""
    if line.startswith("{"):
        return {key: "null" if it is None else str(it) for key, it in json.loads(line).items()}
    return {key: value for key, _, value in (part.partition("=") for part in shlex.split(line))}


def test_a_line_has_all_fields_in_order(log: Log) -> None:
    tell(log.observer)
    (line,) = log.lines()
    found = fields(line)
    assert list(found) == [
        *("time", "peer", "port_address", "port", "instance", "method", "path", "status", "bytes"),
        *("duration_ms", "first_byte_ms", "request_id", "cause"),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert float(found.pop("duration_ms")) == pytest.approx(3.5)
    assert float(found.pop("first_byte_ms")) == pytest.approx(2.0)
    assert found == {
        "peer": "10.0.0.5",
        "port_address": "169.254.0.5",
        "port": "port-5",
        "instance": "instance-5",
        "method": "GET",
        "path": "/openstack/latest/?x=1",
        "status": "200",
        "bytes": "1234",
        "request_id": "req-1",
        "cause": "answered",
    }


def test_a_request_that_could_not_be_read_has_a_line_too(log: Log) -> None:
    tell(
        log.observer,
        port_id="",
        instance_id="",
        method=b"",
        target=b"",
        request_id=b"",
        status=400,
        cause="MALFORMED",
        first_byte=0.0,
    )
    (line,) = log.lines()
    found = fields(line)
    assert (found["status"], found["cause"], found["first_byte_ms"]) == ("400", "malformed", "null")
    assert (found["path"], found["port"], found["request_id"]) == ("", "", "")


def test_the_forms_are_as_documented() -> None:
    for form, begin, end in (
        ("text", "time=", " request_id=req-1 cause=answered"),
        ("json", '{"time":"', ',"request_id":"req-1","cause":"answered"}'),
    ):
        log = Log(form)
        tell(log.observer)
        (line,) = log.lines()
        log.close()
        assert line.startswith(begin)
        assert line.endswith(end)


def test_the_form_can_be_changed_while_it_is_written() -> None:
    log = Log("text")
    tell(log.observer)
    log.observer.apply(Settings(access_log="off"))
    tell(log.observer)
    log.observer.apply(Settings(access_log="json"))
    tell(log.observer)
    first, second = log.lines()
    log.close()
    assert first.startswith("time=")
    assert second.startswith("{")
    assert log.observer.statistics.take().requests == {(200, "answered"): 3}


@given(target=st.binary(max_size=MAX_PATH), method=st.binary(max_size=32))
def test_whatever_a_guest_writes_is_one_printable_line_and_can_be_read_back(
    target: bytes, method: bytes
) -> None:
    log = Log("json")
    tell(log.observer, target=target, method=method)
    (line,) = log.lines()
    log.close()
    assert PRINTABLE.fullmatch(line)
    found = json.loads(line)
    assert found["path"].encode("latin-1") == target
    assert found["method"].encode("latin-1") == method


@given(target=st.binary(max_size=MAX_PATH), method=st.binary(max_size=32))
def test_a_text_line_cannot_be_forged(target: bytes, method: bytes) -> None:
    log = Log("text")
    tell(log.observer, target=target, method=method)
    (line,) = log.lines()
    log.close()
    assert PRINTABLE.fullmatch(line)
    # Without all quoted texts, nothing that a guest wrote is left.
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", line)
    assert re.fullmatch(
        r"time=\S+ peer=10\.0\.0\.5 port_address=169\.254\.0\.5 port= instance= method= path="
        r" status=200 bytes=1234 duration_ms=3\.500 first_byte_ms=2\.000 request_id=req-1"
        r" cause=answered",
        bare,
    )


@pytest.mark.parametrize("byte", [b"a", b"\xff", b'"'])
def test_a_long_path_is_cut(log: Log, byte: bytes) -> None:
    tell(log.observer, target=b"/" + byte * 65536, method=b"M" * 65536)
    (line,) = log.lines()
    assert len(line) < 4096
    assert len(quote_method(b"M" * 65536)) < 100
    whole, cut = b"/" * MAX_PATH, b"/" * (MAX_PATH + 1)
    assert json.loads(quote_path(whole)) == whole.decode()
    assert json.loads(quote_path(cut)) == whole.decode() + "\u2026"


def test_the_clock_shows_utc_to_the_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for now, shown in (
        (0.0, "1970-01-01T00:00:00.000Z"),
        (0.9999, "1970-01-01T00:00:00.999Z"),
        (1800000000.25, "2027-01-15T08:00:00.250Z"),
        (1800000001.0, "2027-01-15T08:00:01.000Z"),
        (1800000000.25, "2027-01-15T08:00:00.250Z"),  # set back
    ):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert clock.now() == shown


def test_requests_are_counted_by_status_and_cause_and_by_port() -> None:
    log = Log("off")
    observer = log.observer
    tell(observer)
    tell(observer, status=404)
    tell(observer, port_id="port-6", status=503, cause="NO_ENDPOINT")
    tell(observer, port_id="", status=404, cause="NO_INTERFACE")
    gone: dict[str, Any] = {
        "status": 0,
        "cause": "GUEST_GONE",
        "first_byte": 0.0,
        "peer": "10.0.0.9",
    }
    tell(observer, port_id="port-5", **gone)
    observer.connection_opened()
    observer.connection_opened()
    observer.connection_refused("PORT_LIMIT")
    log.close()
    counts = observer.statistics.take()
    assert counts.requests == {
        (200, "answered"): 1,
        (404, "answered"): 1,
        (503, "no_endpoint"): 1,
        (404, "no_interface"): 1,
        (0, "guest_gone"): 1,
    }
    assert counts.ports == {
        "port-5": PortActivity(3, 0, "guest_gone", "10.0.0.9"),
        "port-6": PortActivity(1, 503, "no_endpoint", "10.0.0.5"),
    }
    assert (counts.accepted, counts.refused) == (2, {"port_limit": 1})
    assert sum(counts.duration.counts) == 5
    assert sum(counts.first_byte.counts) == 4
