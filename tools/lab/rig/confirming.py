"""The agent's end of a worker's feed, where a test feeds the worker itself."""

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator

from ovs_metadata.proxy.control.feed import ASK_TO_CONFIRM, Confirmed, ReportTaken, encode


@contextlib.contextmanager
def confirming(feed: socket.socket) -> Iterator["queue.SimpleQueue[bytes | None]"]:
    """Confirm identities and take reports, as the agent does; yield the reports."""
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def serve() -> None:
        with contextlib.suppress(OSError):
            for line in feed.makefile("rb"):
                if line == ASK_TO_CONFIRM:
                    feed.sendall(encode(Confirmed()))
                else:
                    lines.put(line)
                    feed.sendall(encode(ReportTaken()))
        lines.put(None)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield lines
    finally:
        with contextlib.suppress(OSError):
            feed.shutdown(socket.SHUT_RDWR)
        thread.join()
