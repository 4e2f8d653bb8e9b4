"""Decisions on a request, as pure functions."""

import pytest
from proxy_support import REQUEST_ID, REQUEST_ID_LINE, identity, identity_lines

from ovs_metadata.proxy.http.errors import ProxyError, render_error
from ovs_metadata.proxy.http.headers import HeaderList
from ovs_metadata.proxy.http.request import (
    METHODS,
    Request,
    RequestHead,
    RequestLine,
    origin_form,
    parse_request_head,
    refuse_line,
    render_request,
)

HOST = (b"Host", b"h")


def digest(
    *headers: tuple[bytes, bytes], method: bytes = b"GET", version: bytes = b"1.1"
) -> RequestHead | ProxyError:
    given: HeaderList = list(headers)
    return parse_request_head(RequestLine(method, b"/", version), headers=given, max_body=10)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        *((RequestLine(method, b"/", b"1.1"), None) for method in METHODS),
        (RequestLine(b"GET", b"/", b"1.0"), None),
        *(
            (RequestLine(method, b"/", b"1.1"), ProxyError.METHOD_REFUSED)
            for method in (b"CONNECT", b"TRACE", b"get", b"PROPFIND", b"DESCRIBE", b"SMUGGLE")
        ),
        *(
            (RequestLine(b"GET", b"/", version), ProxyError.VERSION_REFUSED)
            for version in (None, b"0.9", b"1.2", b"2.0", b"3.0")
        ),
        (RequestLine(b"PRI", b"*", b"2.0"), ProxyError.VERSION_REFUSED),
        (RequestLine(b"GET", b"HTTP/1.1", None), ProxyError.MALFORMED),
        (RequestLine(b"CONNECT", b"h:80", None), ProxyError.MALFORMED),
    ],
)
def test_what_is_served_by_its_request_line(line: RequestLine, error: ProxyError | None) -> None:
    assert refuse_line(line) is error


def test_the_methods_that_are_relayed_are_those_an_answer_names() -> None:
    allow = render_error(ProxyError.METHOD_REFUSED, retry_after=1)
    assert b"\r\nAllow: " + b", ".join(METHODS) + b"\r\n" in allow


@pytest.mark.parametrize(
    ("method", "target", "origin"),
    [
        (b"GET", b"/", b"/"),
        (b"GET", b"//h/../x?http://y", b"//h/../x?http://y"),
        (b"GET", b"http://h/x", b"/x"),
        (b"GET", b"HTTPS://u@h:1?q", b"/?q"),
        (b"GET", b"http://h", b"/"),
        (b"OPTIONS", b"*", b"*"),
        (b"GET", b"*", None),
        (b"GET", b"http://", None),
        (b"GET", b"http:///x", None),
        (b"GET", b"ftp://h/x", None),
        (b"GET", b"h:80", None),
        (b"GET", b"/x#y", None),
    ],
)
def test_targets_are_brought_into_origin_form(
    method: bytes, target: bytes, origin: bytes | None
) -> None:
    assert origin_form(method, target) == origin


def test_an_expectation_of_http_1_0_is_ignored() -> None:
    result = digest((b"Expect", b"100-continue"), version=b"1.0")
    assert isinstance(result, RequestHead)
    assert not result.expects_continue


@pytest.mark.parametrize("value", [b"100-continue, other", b"", b"other"])
def test_an_expectation_that_cannot_be_met_is_refused(value: bytes) -> None:
    assert digest(HOST, (b"Expect", value)) is ProxyError.EXPECTATION_REFUSED


def test_two_expectations_are_refused() -> None:
    both = [(b"Expect", b"100-continue")] * 2
    assert digest(HOST, *both) is ProxyError.EXPECTATION_REFUSED


def test_a_length_over_the_limit_is_refused_from_the_head() -> None:
    assert isinstance(digest(HOST, (b"Content-Length", b"10 ")), RequestHead)
    assert digest(HOST, (b"Content-Length", b"11")) is ProxyError.BODY_TOO_LARGE


def test_a_length_may_have_any_number_of_zeros_before_it() -> None:
    head = digest(HOST, (b"Content-Length", 5000 * b"0" + b"7"))
    assert isinstance(head, RequestHead)
    assert head.length == 7


@pytest.mark.parametrize("length", [b"", b" ", b"+1", b"1_0", b"0x1", b"1,1", b"\xb2"])
def test_a_length_that_is_not_plain_digits_is_refused(length: bytes) -> None:
    assert digest(HOST, (b"Content-Length", length)) is ProxyError.MALFORMED


def test_a_length_beside_a_coding_is_refused_whatever_the_parser_says() -> None:
    both = [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")]
    assert digest(HOST, *both) is ProxyError.MALFORMED


@pytest.mark.parametrize(
    ("method", "idempotent"),
    [
        *[(method, True) for method in (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE")],
        *[(method, False) for method in (b"POST", b"PATCH", b"PROPFIND")],
    ],
)
def test_only_idempotent_methods_may_be_repeated(method: bytes, *, idempotent: bool) -> None:
    head = digest(HOST, method=method)
    assert isinstance(head, RequestHead)
    assert render_request(Request(head, b""), identity(2), REQUEST_ID).idempotent is idempotent


def test_a_chunked_body_gets_its_length_even_if_it_is_empty() -> None:
    head = digest(HOST, (b"Transfer-Encoding", b"chunked"), method=b"POST")
    assert isinstance(head, RequestHead)
    outgoing = render_request(Request(head, b""), identity(2), REQUEST_ID)
    assert outgoing.rest == b"Content-Length: 0\r\n" + identity_lines(2) + REQUEST_ID_LINE + b"\r\n"
