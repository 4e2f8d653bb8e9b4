"""Logging without waiting: lines on standard error, dropped and counted if the reader is too slow.

Standard error is a pipe, a terminal or a socket of the service manager. If its other end hangs (a
paused terminal, journald), the process continues. All output takes this way: loggers of the process
and of its libraries, the access log, `print`, tracebacks, warnings.

Any thread may write; none waits, not even for another thread. The module has no thread, so it works
in a process that eventlet patches after the import.
"""

import contextlib
import functools
import io
import logging
import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from os import write as _write  # eventlet's own would wait until there is room

from ovs_metadata.untrusted import escaped
from ovs_metadata.utc import utc

STANDARD_OUTPUT, STANDARD_ERROR = 1, 2

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

MAX_LINE = 8192
"""Characters of a line that are written; the rest of it is left out."""

CLOSE_TIMEOUT = 1.0
"""Seconds that the last lines may take when the process ends."""

_CHUNK = select.PIPE_BUF
"""Bytes written at once: a pipe takes them in one piece, so that lines of several processes on one
pipe never mix (pipe(7))."""

_BATCH = 256
"""Lines after which they are written without waiting for `flush`."""

_MAX_WAITING = 4096
"""Lines kept for a reader that does not keep up."""


class LineWriter:
    """Collects lines until `flush`. A line ends with its newline."""

    def __init__(self, output: int) -> None:
        """Make it; `output` is not closed by it."""
        self._output = output
        is_socket = stat.S_ISSOCK(os.fstat(output).st_mode)
        self._socket = socket.socket(fileno=os.dup(output)) if is_socket else None
        self._poll = select.poll()
        self._poll.register(output, select.POLLOUT)
        self._lines: deque[str] = deque()
        self._begun = b""  # the rest of a chunk that was taken in part
        self._writing = threading.Lock()  # also while it polls: two may not at once
        self._dropped_reported = 0
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
        while self._waits():
            # The present writer, a thread or the code that this call interrupted, writes all.
            if not self._writing.acquire(blocking=False):
                return
            try:
                if not (self._poll.poll(0) and self._write_some()):
                    return
            finally:
                self._writing.release()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what waits, as far as it is taken within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        self.flush()
        while self._waits() and (left := deadline - time.monotonic()) > 0:
            if self._writing.acquire(timeout=left):
                try:
                    self._poll.poll(left * 1000)
                finally:
                    self._writing.release()
            self.flush()

    def _waits(self) -> bool:
        return bool(self._begun or self._lines or self.dropped > self._dropped_reported)

    def _write_some(self) -> bool:
        """Write one chunk; return whether anything was taken."""
        if not self._begun:
            self._begun = self._take_chunk()
        try:
            written = self._write_now(self._begun[:_CHUNK])
        except BlockingIOError:
            return False
        except OSError:  # the reader has closed it, or the disk is full
            self._drop_all()
            return False
        self._begun = self._begun[written:]
        return True

    def _write_now(self, data: bytes) -> int:
        """Write what is taken without waiting; raises OSError."""
        if self._socket:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return _write(self._output, data)

    def _take_chunk(self) -> bytes:
        """Take lines that fit into a chunk; what was dropped came after all that wait."""
        taken: list[str] = []
        size = 0
        while self._lines:
            size += len(self._lines[0])
            if size > _CHUNK and taken:
                break
            taken.append(self._lines.popleft())
        if not taken:
            number = self.dropped - self._dropped_reported
            self._dropped_reported += number
            taken.append(f"{number} lines of log were dropped here: the reader was too slow\n")
        return "".join(taken).encode("utf-8", "backslashreplace")

    def _drop_all(self) -> None:
        self.dropped += len(self._lines) + self._begun.count(b"\n")
        self._lines.clear()
        self._begun = b""
        self._dropped_reported = self.dropped  # there is no reader to report it to


@functools.cache
def standard_error() -> LineWriter:
    """Return the writer of this process's standard error, the same one for all of it."""
    return LineWriter(STANDARD_ERROR)


def write_lines(lines: Iterable[str]) -> None:
    """Write lines, without their newlines, to standard error."""
    writer = standard_error()
    for line in lines:
        writer.write(line[:MAX_LINE] + "\n")
    writer.flush()


def set_up(*, debug: bool, quiet: Iterable[str] = ()) -> None:
    """Have all that this process logs and prints go to standard error, and never wait for it.

    Of the loggers in `quiet` only warnings and errors are logged. Call it before eventlet patches.
    """
    for descriptor in (STANDARD_OUTPUT, STANDARD_ERROR):
        _never_wait_for(descriptor)
    standard_error()  # made now, of what eventlet has not patched
    sys.stdout = sys.stderr = _StreamToLog()
    handler = _LineHandler()
    handler.setFormatter(LineFormatter(FORMAT))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


def _never_wait_for(descriptor: int) -> None:
    """Make a pipe or a terminal one that refuses what it has no room for.

    By opening it again: non-blocking mode belongs to the open file description, which the present
    descriptor shares with other processes. A socket has a flag for each message, and a file never
    blocks.
    """
    with contextlib.suppress(OSError):  # not ours to open: then it is asked before each chunk
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)) or not os.get_blocking(descriptor):
            return
        own = os.open(
            f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_APPEND
        )
        os.dup2(own, descriptor)
        os.close(own)


class LineFormatter(logging.Formatter):
    """One line for each record, and one for each line of its traceback; times in UTC."""

    def formatTime(self, record: logging.LogRecord, _: str | None = None) -> str:  # noqa: N802 - logging's name
        """The time in the product's notation."""
        return utc(record.created, milliseconds=True)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, escaped."""
        return escaped(super().formatMessage(record))


class _LineHandler(logging.Handler):
    """Writes records to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - as all of logging's handlers do: the caller goes on
            self.handleError(record)
            return
        write_lines(map(escaped, text.split("\n")))

    def flush(self) -> None:
        standard_error().flush()

    def close(self) -> None:
        """Called by `logging.shutdown`, at the end of the process."""
        standard_error().close()
        super().close()


class _StreamToLog(io.TextIOBase):
    """What is printed, by lines, as `sys.stdout` and `sys.stderr`."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, begun = (self._begun + text).split("\n")
        self._begun = begun[:MAX_LINE]
        write_lines(map(escaped, lines))
        return len(text)

    def flush(self) -> None:
        standard_error().flush()

    def fileno(self) -> int:
        return STANDARD_ERROR

    def writable(self) -> bool:
        return True
