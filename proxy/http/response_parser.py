"""From Nova's bytes to one response at a time, without I/O.

It wraps httptools (llhttp, strict). One parser serves one connection to Nova, one response after
the other. It notices bytes after the end of a response (`unsolicited`): they must never become the
response to the next request.

httptools collects a header, a trailer and a chunk extension without limit. So this parser counts
the bytes that are not body: those of the head, those between two pieces of the body, and those
after the last piece.
"""

import httptools

from ovs_metadata.proxy.http.headers import HeaderList, sort_response_headers
from ovs_metadata.proxy.http.response import (
    BadResponseError,
    ResponseHead,
    ResponsePart,
    parse_response_head,
)

_STARTS = {b"", b"H"}
"""The first byte of a response, if it is here: the C parser accepts RTSP/1.0 and ICE/1.0 too."""


class ResponseParser:
    """Call `expect`, then `feed` until a part is complete.

    After a response that is not persistent, the parser is unusable.
    """

    __slots__ = (
        "_body",
        "_complete",
        "_fields",
        "_framing_size",
        "_head",
        "_head_only",
        "_headers",
        "_http",
        "_max_head",
        "_max_headers",
        "_reason",
        "started",
        "unsolicited",
    )

    def __init__(self, *, max_head: int, max_headers: int) -> None:
        self._max_head = max_head
        self._max_headers = max_headers
        self._http: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.unsolicited = False
        """Whether bytes came after the end of the answer."""
        self.started = False
        """Whether a byte of the response has arrived; informational responses (1xx) count."""
        self._head: ResponseHead | None = None
        self._complete = True
        self._head_only = False
        self._begin()

    def _begin(self) -> None:
        self._reason = b""
        self._headers: HeaderList = []
        self._body: list[bytes] = []
        self._fields = 0
        self._framing_size = 0  # bytes since the request, or since a read that brought body

    def expect(self, *, head_only: bool) -> None:
        """Prepare for the response to a request; ``head_only`` means that it is a HEAD."""
        self._head_only = head_only
        self._head = None
        self._complete = False
        self.started = False
        self._begin()

    def close(self) -> None:
        """Drop the C parser, which has references back to this object."""
        self._http = None

    def feed(self, data: bytes) -> ResponsePart:
        """Parse bytes and return their content.

        Raises:
            BadResponseError: they are not part of a response. None of their content is returned.
        """
        had_head = self._head is not None
        first, self.started = not self.started, True
        if first and data.lstrip(b"\r\n")[:1] not in _STARTS:
            raise BadResponseError("the response is not in HTTP")
        self._framing_size += len(data)
        try:
            if self._http is not None:
                self._http.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                raise BadResponseError(f"{error.__context__ or error}") from error
            self.unsolicited = True
        pieces = self._body
        if pieces or self._complete:
            self._framing_size = 0
        elif self._framing_size > self._max_head:
            what = "headers are" if self._head is None else "framing is"
            raise BadResponseError(f"the response's {what} over {self._max_head} bytes")
        elif not had_head and self._head is not None:
            self._framing_size = 0
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return ResponsePart(None if had_head else self._head, body, self._complete)

    def finish(self) -> bool:
        """Note the end of the connection; return whether it is the proper end of the answer."""
        head = self._head
        return head is not None and not (
            self._complete or head.bodyless or head.has_length or head.chunked
        )

    # Called by httptools.

    def on_message_begin(self) -> None:
        """Note an unsolicited response."""
        if self._complete:
            self.unsolicited = True

    def on_status(self, piece: bytes) -> None:
        """Take a piece of the reason phrase."""
        self._reason += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers do not pass."""
        self._fields += 1
        if self._fields > self._max_headers:
            raise BadResponseError(f"the response has more than {self._max_headers} header fields")
        if self._head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Parse the head, unless it is an informational one."""
        http = self._http
        if http is None or self._complete:
            return
        status = http.get_status_code()
        if self._framing_size > self._max_head and self._head_size() > self._max_head:
            raise BadResponseError(f"the response's headers are over {self._max_head} bytes")
        if status < 200:
            _refuse_body(status, self._headers)
            return
        version = http.get_http_version()
        self._head = parse_response_head(
            status, self._reason, version, self._headers, head_only=self._head_only
        )
        if self._head_only:
            self._complete = True

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        if self._complete:
            self.unsolicited = True
        else:
            self._body.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of the response, or go on after an informational one."""
        if self._head is None:
            self._reason = b""
            self._headers = []
        else:
            self._complete = True

    def _head_size(self) -> int:
        # "HTTP/1.1 200 ", CRLF, and the empty line.
        start = len("HTTP/1.1 200 \r\n\r\n") + len(self._reason)
        return start + sum(len(name) + len(value) + len(": \r\n") for name, value in self._headers)


def _refuse_body(status: int, headers: HeaderList) -> None:
    """Refuse an informational response that announces a body.

    It has no body, in spite of its headers (RFC 9112, section 6.3). For most statuses the C parser
    follows the headers, and would take that body for the response's.

    Raises:
        BadResponseError: the headers announce a body.
    """
    announced = sort_response_headers(headers)
    if announced.transfer_encodings or announced.content_length not in {None, b"0"}:
        raise BadResponseError(f"the informational response {status} announces a body")
