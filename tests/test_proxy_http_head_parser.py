"""The parser of whole heads: what is kept, and that limits are not mixed up."""

from typing import Any

import pytest

from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.head_parser import USUAL_SIZE, parse_head, parse_usual_head
from ovs_metadata.proxy.http.request import Request, RequestHead
from ovs_metadata.proxy.http.request_parser import RequestParser


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"GET /kept HTTP/1.1", b"Host: h", *lines, b"", b""))


def parsers(**limits: int) -> RequestParser:
    return RequestParser(**{"max_head": 65536, "max_headers": 256, "max_body": 1000} | limits)


def taken(subject: RequestParser, text: bytes) -> Request | ProxyError | None:
    subject.receive(text)
    return subject.take()


@pytest.fixture(autouse=True)
def empty() -> None:
    parse_usual_head.cache_clear()


def test_a_head_that_another_connection_had_is_not_parsed_again() -> None:
    first, second = taken(parsers(), head()), taken(parsers(), head())
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.head is second.head
    assert first.head == parse_head(head(), 256, 1000)
    assert parse_usual_head.cache_info()[:2] == (1, 1)


@pytest.mark.parametrize(
    ("text", "limits", "error"),
    [
        (head(*5 * [b"A: b"]), {"max_headers": 5}, ProxyError.HEAD_TOO_LARGE),
        (head(b"Content-Length: 9"), {"max_body": 8}, ProxyError.BODY_TOO_LARGE),
        (head(), {"max_head": len(head()) - 1}, ProxyError.HEAD_TOO_LARGE),
    ],
    ids=["max_headers", "max_body", "max_head"],
)
def test_a_head_that_is_kept_passes_no_tighter_limit(
    text: bytes, limits: dict[str, int], error: ProxyError
) -> None:
    assert not isinstance(taken(parsers(), text), ProxyError)
    assert taken(parsers(**limits), text) is error
    assert not isinstance(taken(parsers(), text), ProxyError)


def test_a_long_head_is_not_kept() -> None:
    text = head(b"A: " + USUAL_SIZE * b"b")
    assert isinstance(taken(parsers(), text), Request)
    assert parse_usual_head.cache_info().currsize == 0
    assert isinstance(parse_head(text, 256, 1000), RequestHead)


class _AcceptsAll:
    """A parser of HTTP that finds no fault."""

    def __init__(self, fields: Any) -> None:
        self._fields = fields

    def feed_data(self, _data: bytes) -> None:
        self._fields.on_header(b"Host", b"a")
        self._fields.on_headers_complete()


@pytest.mark.parametrize("byte", [b"\0", b"\x01", b"\x0b", b"\x7f", b"\n", b"\r"])
def test_control_characters_are_refused_whatever_the_library_accepts(
    monkeypatch: pytest.MonkeyPatch, byte: bytes
) -> None:
    monkeypatch.setattr("httptools.HttpRequestParser", _AcceptsAll)
    text = b"GET / HTTP/1.1\r\nHost: a\r\nX-Name: b%bc\r\n\r\n"
    assert isinstance(parse_head(text % b"", 100, 1000), RequestHead)
    assert parse_head(text % byte, 100, 1000) is ProxyError.MALFORMED
