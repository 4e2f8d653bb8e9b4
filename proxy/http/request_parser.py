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

from ovs_metadata.proxy.http.chunked_body import ChunkedBody
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.head_parser import (
    USUAL_SIZE,
    is_forbidden,
    parse_head,
    parse_line,
    parse_usual_head,
)
from ovs_metadata.proxy.http.request import Request, RequestHead, refuse_line

_MAX_EMPTY_LINES = 2
"""Before a request line; RFC 9112, section 2.2, wants one to be ignored."""

_PIECE = 2048
"""Bytes of a head that are checked together. The bytes after an invalid piece cost no time."""

_CR = 13


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
        "_has_line",
        "_max_body",
        "_max_head",
        "_max_headers",
        "_received",
        "_scanned",
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
        self._begin()

    def _begin(self) -> None:
        self.progress = Progress.IDLE
        self.head: RequestHead | None = None
        """The head of the request whose body is arriving."""
        self._empty_lines = 0
        self._has_line = False
        self._scanned = 0  # bytes of the head without its end and without a forbidden byte
        self._chunks: ChunkedBody | None = None

    def close(self) -> None:
        """Drop what was received."""
        self._chunks = None
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
        if received.startswith(b"\r\n"):
            self._skip_empty_lines()
        self.progress = Progress.HEAD if received else Progress.IDLE
        scanned = self._scanned
        if not self._has_line:
            if not scanned and self._take_usual_head():
                return None
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
                head = parse_head(bytes(received[:end]), self._max_headers, self._max_body)
                if isinstance(head, ProxyError):
                    return head
                self._accept(head, end)
                return None
            if scanned and received[scanned - 1] == _CR:
                scanned -= 1
            if is_forbidden(bytes(received[scanned:stop])):
                return ProxyError.MALFORMED
            scanned = stop
        self._scanned = scanned
        return ProxyError.HEAD_TOO_LARGE if scanned >= limit else None

    def _skip_empty_lines(self) -> None:
        received = self._received
        while self._empty_lines < _MAX_EMPTY_LINES and received.startswith(b"\r\n"):
            self._empty_lines += 1
            self._scanned = 0
            del received[:2]

    def _take_usual_head(self) -> bool:
        """Take a head that is here as a whole, is not long, and has no error."""
        received = self._received
        end = received.find(b"\r\n\r\n", 0, min(self._max_head, USUAL_SIZE)) + 4
        if end < 4:
            return False
        head = parse_usual_head(bytes(received[:end]), self._max_headers, self._max_body)
        if isinstance(head, ProxyError):
            return False  # the errors have an order
        self._accept(head, end)
        return True

    def _take_line(self, text: bytes) -> ProxyError | None:
        line = parse_line(text)
        if line is None:
            return ProxyError.MALFORMED
        self._has_line = True
        self.refused_head = line.method == b"HEAD"
        return refuse_line(line)

    def _accept(self, head: RequestHead, size: int) -> None:
        """Take a head of so many bytes."""
        del self._received[:size]
        self.head = head
        if head.chunked:
            self._chunks = ChunkedBody(self._max_body)

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
