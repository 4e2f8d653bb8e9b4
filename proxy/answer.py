"""Nova's answer as a value: how it is framed on its way in, and on its way out to the guest.

Pure functions, no I/O. Status, reason, headers and body pass unchanged; only how the end of the
body is marked depends on the guest's side (RFC 9112, section 6).
"""

import enum
from typing import NamedTuple

from ovs_metadata.proxy.headers import HeaderList, is_persistent, sort_answer_headers

_LAST_CHUNK = b"0\r\n\r\n"


class AnswerHead(NamedTuple):
    """The head of an acceptable answer."""

    status: int
    reason: bytes
    header_lines: bytes
    """What of Nova's headers goes to the guest, each line with its CRLF."""
    bodyless: bool
    has_length: bool
    chunked: bool
    persistent: bool
    """Whether the connection to Nova may be used again after it."""


class AnswerPart(NamedTuple):
    """What one read from Nova brought: the head, if it came with it, body bytes, the end."""

    head: AnswerHead | None
    body: bytes
    complete: bool


class Framing(enum.Enum):
    """How the guest finds the end of an answer."""

    NO_BODY = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()


class BadAnswerError(Exception):
    """What came from Nova cannot be understood as one HTTP answer."""


def digest_answer(
    *, status: int, reason: bytes, version: str, headers: HeaderList, head_only: bool
) -> AnswerHead:
    """Read the head of an answer; ``head_only`` says that the request was a HEAD.

    Raises:
        BadAnswerError: not HTTP/1.0 or 1.1, or a transfer coding this proxy cannot undo.
    """
    if version not in {"1.0", "1.1"}:
        raise BadAnswerError(f"the answer is in HTTP/{version}")
    sorted_headers = sort_answer_headers(headers)
    encodings = [value.strip().lower() for value in sorted_headers.transfer_encodings]
    if encodings not in ([], [b"chunked"]):
        raise BadAnswerError("the answer has a transfer coding other than chunked")
    return AnswerHead(
        status=status,
        reason=reason,
        header_lines=sorted_headers.passed,
        bodyless=head_only or status in {204, 304},
        has_length=sorted_headers.content_length is not None,
        chunked=bool(encodings),
        # The C parser cannot be told that a body is announced but will not come, as after HEAD. So
        # it cannot tell the next answer from such a body, and the connection is not used again.
        persistent=not head_only
        and is_persistent(http_1_1=version == "1.1", connection=sorted_headers.connection),
    )


def choose_framing(head: AnswerHead, *, http_1_1: bool) -> Framing:
    """Choose how to mark the end of an answer for a guest of that HTTP version."""
    if head.bodyless:
        return Framing.NO_BODY
    if head.has_length:
        return Framing.LENGTH
    return Framing.CHUNKED if http_1_1 else Framing.CLOSE


def render_head(head: AnswerHead, framing: Framing, *, http_1_1: bool, keep_alive: bool) -> bytes:
    """Return the head of an answer as the guest gets it.

    The Connection header speaks of the guest's connection, whatever Nova does with its own.
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


class AnswerEncoder:
    """Turns the parts of one answer into the bytes for a guest."""

    def __init__(self, *, http_1_1: bool, keep_alive: bool) -> None:
        self._http_1_1 = http_1_1
        self._chunked = False
        self.keep_alive = keep_alive
        """Whether the guest's connection outlives this answer."""
        self.started = False
        """Whether the guest has been sent any of it."""

    def encode(self, part: AnswerPart) -> bytes:
        """Return what to send for a part: head, body and end in one."""
        pieces = []
        if part.head is not None:
            self.started = True
            framing = choose_framing(part.head, http_1_1=self._http_1_1)
            self._chunked = framing is Framing.CHUNKED
            if framing is Framing.CLOSE:
                self.keep_alive = False
            pieces.append(
                render_head(part.head, framing, http_1_1=self._http_1_1, keep_alive=self.keep_alive)
            )
        if not self._chunked:
            pieces.append(part.body)
        else:
            if part.body:  # an empty chunk would be the last
                pieces.append(b"%x\r\n%b\r\n" % (len(part.body), part.body))
            if part.complete:
                pieces.append(_LAST_CHUNK)
        return b"".join(pieces)
