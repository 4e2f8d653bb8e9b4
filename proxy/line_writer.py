"""Writes lines to a descriptor without ever waiting for whoever reads them.

A worker's standard error is usually a pipe or a socket of the service manager. When its other end
does not keep up, serving goes on and lines are dropped and counted instead. Belongs to the event
loop's thread.
"""

import os
import select

_CHUNK = select.PIPE_BUF
"""Bytes written at once. A pipe that is ready takes that many without blocking, and in one piece,
so that the lines of two workers on one pipe never mix (pipe(7))."""

_BATCH = 256
"""Lines after which they are written without waiting for `flush`."""

_MAX_WAITING = 4096
"""Lines kept for a reader that does not keep up."""


class LineWriter:
    """Collects lines until `flush`. A line must be ASCII, and end with its newline."""

    def __init__(self, output: int) -> None:
        self._output = output
        self._poll = select.poll()
        self._poll.register(output, select.POLLOUT)
        self._lines: list[str] = []
        self._begun = b""  # the rest of a chunk that was taken in part
        self.dropped = 0
        """Lines that were dropped so far."""

    def write(self, line: str) -> None:
        """Add a line, or drop it if too many wait already."""
        lines = self._lines
        if len(lines) >= _MAX_WAITING:
            self.dropped += 1
            return
        lines.append(line)
        if len(lines) % _BATCH == 0:
            self.flush()

    def flush(self) -> None:
        """Write what can be written now."""
        while (self._lines or self._begun) and self._poll.poll(0):
            if not self._begun:
                self._begun = self._take_chunk()
            try:
                written = os.write(self._output, self._begun)
            except BlockingIOError:
                return
            except OSError:  # nobody reads any more, or the disk is full
                self._drop_all()
                return
            self._begun = self._begun[written:]

    def _take_chunk(self) -> bytes:
        size = count = 0
        for line in self._lines:
            size += len(line)
            if size > _CHUNK and count:
                break
            count += 1
        chunk = "".join(self._lines[:count]).encode("ascii")
        del self._lines[:count]
        return chunk

    def _drop_all(self) -> None:
        self.dropped += len(self._lines) + self._begun.count(b"\n")
        self._lines.clear()
        self._begun = b""
