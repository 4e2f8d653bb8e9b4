"""From the bytes of a chunked body (RFC 9112, section 7.1) to the body, without I/O.

This parser finds the end of a request to the byte, because the next request follows and has to
wait. It looks at each byte once. It checks extensions and trailers, and drops them.
"""

import re

from ovs_metadata.proxy.http.errors import ProxyError

FRAMING = 512
"""Bytes of chunk headers, extensions and trailers that every body may have."""

FRAMING_SHARE = 32
"""Bytes of the body for each further byte of framing. A chunk costs the same time whatever its
size, so this bounds the time of a body. Some 100 chunks may have one byte, and any number 256
bytes."""

_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_CHUNK_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;" + _TEXT + rb")?\r\n")
_TRAILER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):" + _TEXT + rb"\r\n")

_NO_TRAILERS = frozenset({b"content-length", b"transfer-encoding"})
"""Fields that frame a body, so they are invalid after it (RFC 9110, section 6.5.1)."""


class ChunkedBody:
    """Takes its bytes from the received ones, until it is complete."""

    __slots__ = ("_framing", "_in_trailers", "_left", "_max_body", "_scanned", "body", "complete")

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._framing = 0
        self._left = 0  # of a chunk's data and the CRLF behind it
        self._scanned = 0  # bytes of an incomplete line without its end
        self._in_trailers = False
        self.body = bytearray()
        self.complete = False

    def take_from(self, received: bytearray) -> ProxyError | None:
        """Take the body's bytes from the front; an error is final."""
        body, position, size = self.body, 0, len(received)
        while not self.complete:
            left = self._left
            if left:
                piece = min(left - 2, size - position)
                body += received[position : position + piece]
                position += piece
                self._left = left = left - piece
                if left > 2 or size - position < 2:
                    break
                if not received.startswith(b"\r\n", position):
                    return ProxyError.MALFORMED
                position += 2
                self._left = 0
            room = FRAMING + len(body) // FRAMING_SHARE - self._framing
            end = received.find(b"\r\n", position + self._scanned, position + room) + 2
            if end < 2:
                if size - position >= room:
                    return ProxyError.BODY_TOO_LARGE
                self._scanned = max(0, size - position - 1)
                break
            self._scanned = 0
            self._framing += end - position
            error = (self._take_trailer if self._in_trailers else self._take_header)(
                received, position, end
            )
            if error is not None:
                return error
            position = end
        del received[:position]
        return None

    def _take_header(self, received: bytearray, start: int, end: int) -> ProxyError | None:
        header = _CHUNK_HEADER.fullmatch(received, start, end)
        if header is None:
            return ProxyError.MALFORMED
        size = int(header[1], 16)
        if size > self._max_body - len(self.body):
            return ProxyError.BODY_TOO_LARGE
        if size:
            self._left = size + 2
            self._framing += 2
        else:
            self._in_trailers = True
        return None

    def _take_trailer(self, received: bytearray, start: int, end: int) -> ProxyError | None:
        if end - start == 2:
            self.complete = True
            return None
        trailer = _TRAILER.fullmatch(received, start, end)
        if trailer is None or trailer[1].lower() in _NO_TRAILERS:
            return ProxyError.MALFORMED
        return None
