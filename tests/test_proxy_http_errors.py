"""The proxy's own answers."""

import re

import pytest

from ovs_metadata.proxy.http.errors import ProxyError, render_error


@pytest.mark.parametrize("error", ProxyError)
def test_every_answer_is_well_formed_and_closes(error: ProxyError) -> None:
    data = render_error(error, retry_after=7)
    head, _, body = data.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 [45]\d\d [A-Z][A-Za-z ]+\r\n", head)
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert b"\r\nConnection: close" in head
    again = head.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 429 "))
    assert (b"\r\nRetry-After: 7\r\n" in head) is again
    assert render_error(error, retry_after=7, head_only=True) == head + b"\r\n\r\n"


@pytest.mark.parametrize("error", ProxyError)
def test_no_answer_speaks_of_the_inside(error: ProxyError) -> None:
    text = render_error(error, retry_after=7).lower()
    for word in (b"nova", b"8775", b"traceback", b"ovs", b"proxy", b"port-"):
        assert word not in text


def test_a_refused_method_names_those_that_are_offered() -> None:
    assert b"\r\nAllow: GET, HEAD, " in render_error(ProxyError.METHOD_REFUSED, retry_after=7)
