"""Nova's response as a value: its framing by Nova, and its framing for the guest.

Pure functions, no I/O. Status, reason, headers and body pass unchanged; only the mark of the body's
end depends on the guest (RFC 9112, section 6).
"""

import enum
from typing import NamedTuple

from ovs_metadata.proxy.http.headers import (
    HeaderList,
    is_chunked,
    is_persistent,
    sort_response_headers,
)

_LAST_CHUNK = b"0\r\n\r\n"


class ResponseHead(NamedTuple):
    """The head of an acceptable answer."""

    status: int
    reason: bytes
    header_lines: bytes
    """Nova's header lines that the guest gets, each with its CRLF."""
    bodyless: bool
    has_length: bool
    chunked: bool
    persistent: bool
    """Whether the connection to Nova is reusable after it."""


class ResponsePart(NamedTuple):
    """The content of one read from Nova: the head if it is in it, body bytes, the end."""

    head: ResponseHead | None
    body: bytes
    complete: bool


class Framing(enum.Enum):
    """How the guest finds the end of a response."""

    NO_BODY = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()


class BadResponseError(Exception):
    """The bytes from Nova are no HTTP response."""


def parse_response_head(
    status: int, reason: bytes, version: str, headers: HeaderList, *, head_only: bool
) -> ResponseHead:
    """Parse the head of a response; ``head_only`` means that the request was a HEAD.

    Raises:
        BadResponseError: not HTTP/1.0 or 1.1, or an unknown transfer coding.
    """
    http_1_1 = version == "1.1"
    if not http_1_1 and version != "1.0":
        raise BadResponseError(f"the response is in HTTP/{version}")
    passed, content_length, encodings, connection = sort_response_headers(headers)
    if encodings and not is_chunked(encodings):
        raise BadResponseError("the response has a transfer coding other than chunked")
    return ResponseHead(
        status,
        reason,
        passed,
        head_only or status in {204, 304},
        content_length is not None,
        bool(encodings),
        # The C parser does not know that the announced body does not come after HEAD. It would take
        # the next response for that body, so the connection is not reused.
        not head_only and is_persistent(http_1_1, connection),
    )


def choose_framing(head: ResponseHead, *, http_1_1: bool) -> Framing:
    """Choose how to mark the end of a response for a guest of that HTTP version."""
    if head.bodyless:
        return Framing.NO_BODY
    if head.has_length:
        return Framing.LENGTH
    return Framing.CHUNKED if http_1_1 else Framing.CLOSE


def render_head(head: ResponseHead, framing: Framing, *, http_1_1: bool, keep_alive: bool) -> bytes:
    """Return the head of a response as the guest gets it.

    The Connection header describes the guest's connection, not Nova's.
    """
    coding = b"Transfer-Encoding: chunked\r\n" if framing is Framing.CHUNKED else b""
    if not keep_alive:
        connection = b"Connection: close\r\n"
    elif http_1_1:
        connection = b""
    else:
        connection = b"Connection: keep-alive\r\n"
    return b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (
        head.status,
        head.reason,
        head.header_lines,
        coding,
        connection,
    )


class ResponseEncoder:
    """Turns the parts of one response into the bytes for a guest."""

    __slots__ = ("_chunked", "_http_1_1", "keep_alive", "status")

    def __init__(self, http_1_1: bool, keep_alive: bool) -> None:
        self._http_1_1 = http_1_1
        self._chunked = False
        self.keep_alive = keep_alive
        """Whether the guest's connection outlives this answer."""
        self.status = 0
        """The status that the guest has got; 0 before the first byte."""

    def encode(self, part: ResponsePart) -> bytes:
        """Return the bytes of a part: head, body and end in one."""
        head, body, complete = part
        start = b""
        if head is not None:
            self.status = head.status
            framing = choose_framing(head, http_1_1=self._http_1_1)
            self._chunked = framing is Framing.CHUNKED
            if framing is Framing.CLOSE:
                self.keep_alive = False
            start = render_head(head, framing, http_1_1=self._http_1_1, keep_alive=self.keep_alive)
        if not self._chunked:
            return start + body
        # An empty chunk would end the body.
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return b"".join((start, chunk, _LAST_CHUNK if complete else b""))
