"""From a guest's bytes to requests, without I/O.

Around httptools (llhttp, strict), which calls back for every piece. What it does not bound is
bounded here: it collects a header value that trickles in without limit, so the bytes given to it
are counted. One parser serves one connection; it is of no use after a failure.
"""

import enum
from collections import deque

import httptools

from ovs_metadata.proxy.errors import Failure
from ovs_metadata.proxy.headers import HeaderList
from ovs_metadata.proxy.request import Request, RequestHead, digest_head

# How many bytes httptools is given at once. It cannot be told to stop after a request, so this
# bounds how many requests that follow a body are ever held.
_MAX_PIECE = 16 * 1024


class Progress(enum.Enum):
    """How far the request that is being received has come."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


# Looking up a member of an enumeration costs as much as a call, and this is on every request's way.
_IDLE, _HEAD, _BODY = Progress.IDLE, Progress.HEAD, Progress.BODY


class _RefusedError(Exception):
    """Raised within a parser callback to stop the parser; the failure is already noted."""


class RequestParser:
    """Give it bytes by `receive`; `take` what they amount to, one request at a time."""

    __slots__ = (
        "_body",
        "_body_size",
        "_failure",
        "_headers",
        "_http",
        "_max_body",
        "_max_head",
        "_max_headers",
        "_ready",
        "_received",
        "_target",
        "_upgrading",
        "_wire_size",
        "head",
        "progress",
        "refused_head",
    )

    def __init__(self, max_head: int, max_headers: int, max_body: int) -> None:
        self._max_head = max_head
        self._max_headers = max_headers
        self._max_body = max_body
        self._received = b""
        self._ready: deque[Request] = deque()
        self._failure: Failure | None = None
        self.refused_head = False
        """Whether the refused request is a HEAD, whose answer must not have a body."""
        self.progress = Progress.IDLE
        self.head: RequestHead | None = None
        """The head of the request whose body is being received."""
        self._http: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self.progress = _IDLE
        self.head = None
        self._target = b""
        self._headers: HeaderList = []
        self._body: list[bytes] = []
        self._body_size = 0
        self._wire_size = 0
        self._upgrading = False

    def close(self) -> None:
        """Let go of the C parser, which holds references back to this object."""
        self._http = None
        self._received = b""

    def receive(self, data: bytes) -> None:
        """Keep bytes for the next `take`."""
        self._received = self._received + data if self._received else data

    def take(self) -> Request | Failure | None:
        """Return the next whole request, or why there can be none, or None: more bytes are needed.

        Received bytes are parsed no further than the piece that holds the request returned. After a
        failure there is nothing but that failure.
        """
        while not self._ready and self._failure is None and self._received:
            received = self._received
            size = _MAX_PIECE
            if self.progress is not _BODY:
                # Requests that were pipelined are not parsed before their turn.
                end_of_head = received.find(b"\r\n\r\n", 0, _MAX_PIECE)
                if end_of_head >= 0:
                    size = end_of_head + 4
            piece, self._received = received[:size], received[size:]
            self._feed(piece)
        return self._ready.popleft() if self._ready else self._failure

    def _feed(self, data: bytes) -> None:
        while data and self._http is not None and self._failure is None:
            self._wire_size += len(data)
            try:
                self._http.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[int(upgrade.args[0]) :]
            except httptools.HttpParserError:
                self._failure = self._failure or Failure.MALFORMED
                return
            else:
                data = b""
            if self.progress is not _IDLE:
                self._check_size()

    def _check_size(self) -> None:
        if self.progress is _HEAD and self._wire_size > self._max_head:
            self._failure = Failure.HEAD_TOO_LARGE
        elif self.progress is _BODY:
            # Chunk headers, extensions and trailers. A body in one-byte chunks has five bytes of
            # them for each byte; beyond that they get the room of a head.
            framing = self._wire_size - self._body_size
            if framing > 2 * self._max_head + 5 * self._body_size:
                self._failure = Failure.BODY_TOO_LARGE

    def _without_upgrade(self) -> bytes:
        """Start over with a request that asked for another protocol, minus the asking.

        llhttp takes everything after such a head for the other protocol, a body included. Ignoring
        the wish (RFC 9110, section 7.8) therefore means to parse the head again without it.
        """
        version = "" if self._http is None else self._http.get_http_version()
        lines = [b"%b %b HTTP/%b\r\n" % (self._method(), self._target, version.encode("ascii"))]
        lines += [
            b"%b: %b\r\n" % (name, value)
            for name, value in self._headers
            if name.lower() != b"upgrade"
        ]
        self._http = httptools.HttpRequestParser(self)
        self._begin()
        return b"".join(lines) + b"\r\n"

    def _method(self) -> bytes:
        return self._http.get_method() if self._http is not None else b""

    # Called by httptools.

    def on_message_begin(self) -> None:
        """Note the first byte of a request."""
        self.progress = _HEAD

    def on_url(self, piece: bytes) -> None:
        """Take a piece of the request target."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer, which has no meaning here, is dropped."""
        if self.head is None:
            self._headers.append((name, value))
            if len(self._headers) > self._max_headers:
                self._refuse(Failure.HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Decide on the request from its head."""
        http = self._http
        if http is None:
            return
        # Of a piece that held the end of another request too, nothing has been counted.
        if self._wire_size > self._max_head - _MAX_PIECE and self._head_size() > self._max_head:
            self._refuse(Failure.HEAD_TOO_LARGE)
        method = http.get_method()
        if http.should_upgrade() and method != b"CONNECT":
            self._upgrading = True
            return
        version = http.get_http_version()
        head = digest_head(method, self._target, version, self._headers, self._max_body)
        if isinstance(head, Failure):
            self._refuse(head)
        else:
            self.head = head
            self.progress = _BODY

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._body_size += len(piece)
        if self._body_size > self._max_body:
            self._refuse(Failure.BODY_TOO_LARGE)
        self._body.append(piece)

    def on_message_complete(self) -> None:
        """Put the request among those that are ready."""
        if self.head is not None:
            body = b"".join(self._body) if self._body else b""
            self._ready.append(Request(self.head, body))
        if not self._upgrading:
            self._begin()

    def _head_size(self) -> int:
        # Method, two blanks, version, CRLF, and the empty line.
        start = len(self._method()) + len(self._target) + len("  HTTP/1.1\r\n\r\n")
        return start + sum(len(name) + len(value) + len(": \r\n") for name, value in self._headers)

    def _refuse(self, failure: Failure) -> None:
        self._failure = failure
        self.refused_head = self._method() == b"HEAD"
        raise _RefusedError
