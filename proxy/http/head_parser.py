"""The head of a request: from its bytes to a value.

Pure functions of the bytes and the limits, so the values of usual heads are kept: the same programs
ask for the same paths again and again, in all instances of an image.
"""

import functools
import re

import httptools

from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.headers import HeaderList
from ovs_metadata.proxy.http.request import (
    RequestHead,
    RequestLine,
    parse_request_head,
    refuse_line,
)

USUAL_SIZE = 1024
"""Bytes of a head whose value is kept. With 512 of them this is 2 MiB at most."""

_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) +([^\x00-\x20\x7f]+)(?: HTTP/([0-9]\.[0-9]))?\r\n"
)

_ALLOWED = bytes({9, 10, 13, *range(0x20, 0x7F), *range(0x80, 0x100)})


def is_forbidden(text: bytes) -> bool:
    """Whether a head must not have this: control characters, or a CR or LF outside a CRLF.

    A CR at the end may be half of a CRLF. This is a scan in C; a regular expression takes 1.7 ms
    for 64 KiB.
    """
    pairs = text.count(b"\r\n")
    return (
        text.count(b"\n") != pairs
        or text.count(b"\r") - text.endswith(b"\r") != pairs
        or bool(text.translate(None, _ALLOWED))
    )


def parse_line(text: bytes) -> RequestLine | None:
    """Parse the line that a request begins with; None if it is malformed."""
    match = _REQUEST_LINE.match(text)
    return None if match is None else RequestLine(*match.groups())


def parse_head(text: bytes, max_headers: int, max_body: int) -> RequestHead | ProxyError:
    """Parse a whole head, its empty line included."""
    # llhttp refuses it too; the proxy does not rest on that.
    line = None if is_forbidden(text) else parse_line(text)
    if line is None:
        return ProxyError.MALFORMED
    error = refuse_line(line)
    if error is not None:
        return error
    if text.count(b"\r\n") - 2 > max_headers:
        return ProxyError.HEAD_TOO_LARGE
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(text)
    except httptools.HttpParserUpgrade:
        pass  # the proxy ignores a request for another protocol (RFC 9110, section 7.8)
    except httptools.HttpParserError:
        return ProxyError.MALFORMED
    if not fields.whole:
        return ProxyError.MALFORMED
    return parse_request_head(line, fields.headers, max_body)


parse_usual_head = functools.lru_cache(maxsize=512)(parse_head)
"""The same, for a head of at most `USUAL_SIZE`."""


class _Fields:
    """Takes what llhttp finds in a head."""

    __slots__ = ("headers", "whole")

    def __init__(self) -> None:
        self.headers: HeaderList = []
        self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note that llhttp sees a whole head too."""
        self.whole = True
