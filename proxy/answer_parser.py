"""From Nova's bytes to one answer at a time, without I/O.

Around httptools (llhttp, strict). One parser serves one connection to Nova, one answer after the
other. Bytes that come after an answer without having been asked for are noticed (`surplus`): they
must never be taken for the answer to whatever request comes next.
"""

import httptools

from ovs_metadata.proxy.answer import AnswerHead, AnswerPart, BadAnswerError, digest_answer
from ovs_metadata.proxy.headers import HeaderList


class AnswerParser:
    """Call `expect`, then `feed` until a part says it is complete.

    After an answer that is not persistent, the parser is of no more use.
    """

    __slots__ = (
        "_body",
        "_complete",
        "_head",
        "_head_only",
        "_headers",
        "_http",
        "_informational",
        "_max_head",
        "_reason",
        "_wire_size",
        "started",
        "surplus",
    )

    def __init__(self, *, max_head: int) -> None:
        self._max_head = max_head
        self._http: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.surplus = False
        """Whether bytes came after the end of the answer."""
        self.started = False
        """Whether any byte of the answer has come, an informational one (1xx) included."""
        self._head: AnswerHead | None = None
        self._complete = True
        self._head_only = False
        self._begin()

    def _begin(self) -> None:
        self._reason = b""
        self._headers: HeaderList = []
        self._body: list[bytes] = []
        self._wire_size = 0
        self._informational = False

    def expect(self, *, head_only: bool) -> None:
        """Prepare for the answer to a request; ``head_only`` says that it is a HEAD."""
        self._head_only = head_only
        self._head = None
        self._complete = False
        self.started = False
        self._begin()

    def close(self) -> None:
        """Let go of the C parser, which holds references back to this object."""
        self._http = None

    def feed(self, data: bytes) -> AnswerPart:
        """Parse bytes and return what they brought.

        Raises:
            BadAnswerError: they are not (part of) an answer. None of what they held is returned.
        """
        had_head = self._head is not None
        self.started = True
        self._wire_size += len(data)
        try:
            if self._http is not None:
                self._http.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                raise BadAnswerError(f"{error.__context__ or error}") from error
            self.surplus = True
        if self._head is None and self._wire_size > self._max_head:
            raise BadAnswerError(f"the answer's headers are over {self._max_head} bytes")
        pieces = self._body
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return AnswerPart(None if had_head else self._head, body, self._complete)

    def finish(self) -> bool:
        """Note the end of the connection; return whether it is the proper end of the answer."""
        head = self._head
        return head is not None and not (
            self._complete or head.bodyless or head.has_length or head.chunked
        )

    # Called by httptools.

    def on_message_begin(self) -> None:
        """Note an answer nobody asked for."""
        if self._complete:
            self.surplus = True

    def on_status(self, piece: bytes) -> None:
        """Take a piece of the reason phrase."""
        self._reason += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers do not pass."""
        if self._head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Read the head, unless it is an informational one."""
        http = self._http
        if http is None or self._complete:
            return
        status = http.get_status_code()
        if status < 200:
            self._informational = True
            return
        version = http.get_http_version()
        self._head = digest_answer(
            status, self._reason, version, self._headers, head_only=self._head_only
        )
        if self._head_only:
            self._complete = True

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        if self._complete:
            self.surplus = True
        else:
            self._body.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of the answer, or go on after an informational one."""
        if self._informational:
            self._informational = False
            self._reason = b""
            self._headers = []
        else:
            self._complete = True
