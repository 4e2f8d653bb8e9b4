"""Lines in a stream of bytes, as both ends of the feed read them."""


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
