"""Lines in a stream of bytes, as both ends of the feed read and write them."""

import asyncio
from typing import cast


class LineTooLongError(Exception):
    """A line is longer than its limit. The rest of the stream is unreadable."""


class Lines:
    """Cuts a stream into lines, and keeps the beginning of an incomplete line."""

    def __init__(self, limit: int) -> None:
        """Make it; `limit` is the maximum length of a line in bytes, with its newline."""
        self._limit = limit
        self._begun: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete now, with their newlines.

        Raises:
            LineTooLongError: a line is too long.
        """
        lines = []
        start = 0
        while end := data.find(b"\n", start) + 1:
            self._begin(data[start:end])
            # Mostly this is one piece, which join does not copy.
            lines.append(b"".join(self._begun))
            self._begun.clear()
            self._length = 0
            start = end
        if start < len(data):
            self._begin(data[start:])
        return lines

    def _begin(self, piece: bytes) -> None:
        self._begun.append(piece)
        self._length += len(piece)
        if self._length > self._limit:
            raise LineTooLongError(f"a line is over {self._limit} bytes")


class LineConnection(asyncio.Protocol):
    """One end of the feed's socket pair, on the event loop."""

    def __init__(self, limit: int) -> None:
        """Make it; `limit` is the maximum length of a line that arrives."""
        self._lines = Lines(limit)
        self._transport: asyncio.Transport | None = None

    @property
    def closed(self) -> bool:
        """Whether lines that are written now are lost."""
        return self._transport is None or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection has ended."""
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def close(self) -> None:
        """Close it once everything written is sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the open transport. Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)
