"""From a guest's bytes to requests, without I/O.

This parser finds where a request begins and ends, and bounds it; llhttp (strict, through httptools)
decides whether a head between these bounds is well-formed. llhttp gets whole heads, one at a time,
so the parser does not look at a request before the one ahead of it is over, and how the bytes were
cut into segments makes no difference. It looks at each byte a fixed number of times. One parser
serves one connection; it is unusable after an error.

The first of these checks that fails decides the error, so that one cause has one status:

1. at most two empty lines before the head: otherwise malformed;
2. the request line, as soon as it is complete: malformed, or an unsupported version or method;
3. no byte that a head may not have, as soon as it is there: otherwise malformed;
4. the size of the head, and the number of its lines;
5. everything else, once the head is complete.
"""

import enum
import re

import httptools

from ovs_metadata.proxy.http.chunked_body import ChunkedBody
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.headers import HeaderList
from ovs_metadata.proxy.http.request import (
    Request,
    RequestHead,
    RequestLine,
    parse_request_head,
    refuse_line,
)

_MAX_EMPTY_LINES = 2
"""Before a request line; RFC 9112, section 2.2, wants one to be ignored."""

_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) +([^\x00-\x20\x7f]+)(?: HTTP/([0-9]\.[0-9]))?\r\n"
)

_PIECE = 2048
"""Bytes of a head that are checked together. The bytes after an invalid piece cost no time."""

_CR = 13
_ALLOWED = bytes({9, 10, 13, *range(0x20, 0x7F), *range(0x80, 0x100)})


def _is_forbidden(text: bytes) -> bool:
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


class Progress(enum.Enum):
    """The part of a request that is arriving."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class RequestParser:
    """Takes bytes by `receive`, and returns requests by `take`, one at a time."""

    __slots__ = (
        "_chunks",
        "_empty_lines",
        "_error",
        "_headers",
        "_http",
        "_line",
        "_max_body",
        "_max_head",
        "_max_headers",
        "_received",
        "_scanned",
        "_whole",
        "head",
        "progress",
        "refused_head",
    )

    def __init__(self, max_head: int, max_headers: int, max_body: int) -> None:
        self._max_head = max_head
        self._max_headers = max_headers
        self._max_body = max_body
        self._received = bytearray()
        self._error: ProxyError | None = None
        self.refused_head = False
        """Whether the refused request is a HEAD: its response must not have a body."""
        self._http: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._headers: HeaderList = []
        self._whole = False
        self._begin()

    def _begin(self) -> None:
        self.progress = Progress.IDLE
        self.head: RequestHead | None = None
        """The head of the request whose body is arriving."""
        self._empty_lines = 0
        self._line: RequestLine | None = None
        self._scanned = 0  # bytes of the head without its end and without a forbidden byte
        self._chunks: ChunkedBody | None = None

    def close(self) -> None:
        """Drop what was received, and the C parser, which has references back to this object."""
        self._http = self._chunks = None
        self._received.clear()

    def receive(self, data: bytes) -> None:
        """Keep bytes for the next `take`."""
        self._received += data

    def take(self) -> Request | ProxyError | None:
        """Return the next whole request, or an error, or None: more bytes are needed.

        It does not look at bytes behind the request. After an error it returns that error for ever.
        """
        if self._error is None and self.head is None and self._received:
            self._error = self._take_head()
        head = self.head
        if self._error is not None or head is None:
            return self._error
        body = self._take_body(head) if head.chunked or head.length else b""
        if isinstance(body, bytes):
            self._begin()
            return Request(head, body)
        self._error = body
        return body

    def _take_head(self) -> ProxyError | None:
        """Take the bytes of a head that are here; set `head` once it is complete."""
        received, limit = self._received, self._max_head
        while received.startswith(b"\r\n"):
            if self._empty_lines == _MAX_EMPTY_LINES:
                return ProxyError.MALFORMED
            self._empty_lines += 1
            self._scanned = 0
            del received[:2]
        self.progress = Progress.HEAD if received else Progress.IDLE
        scanned = self._scanned
        if self._line is None:
            # A LF alone ends the line too: then it is malformed.
            end = received.find(b"\n", scanned, limit) + 1
            error = self._take_line(bytes(received[:end])) if end else None
            if error is not None:
                return error
        size = min(len(received), limit)
        while scanned < size:
            stop = min(scanned + _PIECE, size)
            end = received.find(b"\r\n\r\n", max(0, scanned - 3), stop) + 4
            if end >= 4:
                head = bytes(received[:end])
                del received[:end]
                return self._parse_head(head)
            if scanned and received[scanned - 1] == _CR:
                scanned -= 1
            if _is_forbidden(bytes(received[scanned:stop])):
                return ProxyError.MALFORMED
            scanned = stop
        self._scanned = scanned
        return ProxyError.HEAD_TOO_LARGE if scanned >= limit else None

    def _take_line(self, text: bytes) -> ProxyError | None:
        match = _REQUEST_LINE.fullmatch(text)
        if match is None:
            return ProxyError.MALFORMED
        self._line = line = RequestLine(*match.groups())
        self.refused_head = line.method == b"HEAD"
        return refuse_line(line)

    def _parse_head(self, text: bytes) -> ProxyError | None:
        """Parse a whole head."""
        http, line = self._http, self._line
        if http is None or line is None:
            return ProxyError.MALFORMED
        if text.count(b"\r\n") - 2 > self._max_headers:
            return ProxyError.MALFORMED if _is_forbidden(text) else ProxyError.HEAD_TOO_LARGE
        self._headers = []
        self._whole = False
        fit_for_another = True
        try:
            http.feed_data(text)
        except httptools.HttpParserUpgrade:
            # The proxy ignores a request for another protocol (RFC 9110, section 7.8). llhttp would
            # take the bytes that follow for that protocol.
            fit_for_another = False
        except httptools.HttpParserError:
            return ProxyError.MALFORMED
        head = parse_request_head(line, self._headers, self._max_body) if self._whole else None
        if not isinstance(head, RequestHead):
            return head or ProxyError.MALFORMED
        self.head = head
        if head.chunked:
            self._chunks = ChunkedBody(self._max_body)
        if head.chunked or head.length or not head.keep_alive or not fit_for_another:
            self._http = httptools.HttpRequestParser(self)
        return None

    def _take_body(self, head: RequestHead) -> bytes | ProxyError | None:
        self.progress = Progress.BODY
        received, chunks = self._received, self._chunks
        if chunks is not None:
            error = chunks.take_from(received)
            if error is not None:
                return error
            return bytes(chunks.body) if chunks.complete else None
        if len(received) < head.length:
            return None
        with memoryview(received) as view:
            body = bytes(view[: head.length])
        del received[: head.length]
        return body

    # Called by httptools.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note that llhttp sees a whole head too."""
        self._whole = True
