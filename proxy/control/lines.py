"""Lines in a stream of bytes, as both ends of the feed read them."""


class LineTooLongError(Exception):
    """A line does not end within its limit. What follows it cannot be read."""


class Lines:
    """Cuts a stream into lines. What has come of a line that is not whole is kept."""

    def __init__(self, limit: int) -> None:
        """Make it; `limit` is the most bytes a line may have, its newline included."""
        self._limit = limit
        self._begun: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are whole now, with their newlines.

        Raises:
            LineTooLongError: a line does not end in time.
        """
        lines = []
        start = 0
        while end := data.find(b"\n", start) + 1:
            self._begin(data[start:end])
            # Mostly it is one piece, which joining does not copy.
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
