"""Runs in a guest's namespace: for each line read, say when the metadata service first answers.

Every few milliseconds it opens a connection and asks on it, whatever became of those before, since
a SYN that came too early would be repeated by the kernel only after a second. Prints the time
(CLOCK_MONOTONIC, seconds, the same in all namespaces) at which the first byte of an answer with
status 200 arrived.
"""

import contextlib
import selectors
import socket
import sys
import time

INTERVAL = 0.004
"""Seconds between two attempts."""

REMEMBERED = 24
"""Attempts that may be under way at once; then the oldest is given up."""

DEADLINE = 30.0
"""Seconds after which it prints that and gives up."""

REQUEST = b"GET / HTTP/1.0\r\nHost: 169.254.169.254\r\n\r\n"


def _attempt(selector: selectors.BaseSelector, pending: list[socket.socket]) -> None:
    sock = socket.socket()
    sock.setblocking(False)
    # Nothing yet, or no route while ARP is unanswered: shown by the socket when it is used.
    with contextlib.suppress(OSError):
        sock.connect_ex(("169.254.169.254", 80))
    pending.append(sock)
    selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
    if len(pending) > REMEMBERED:
        _forget(selector, pending, pending[0])


def _forget(
    selector: selectors.BaseSelector, pending: list[socket.socket], sock: socket.socket
) -> None:
    pending.remove(sock)
    selector.unregister(sock)
    sock.close()


def first_byte() -> float | None:
    """Ask until there is an answer; None when there is none in time."""
    selector = selectors.DefaultSelector()
    pending: list[socket.socket] = []
    following = time.monotonic()
    deadline = following + DEADLINE
    try:
        while (now := time.monotonic()) < deadline:
            if now >= following:
                _attempt(selector, pending)
                following = now + INTERVAL
            for key, events in selector.select(max(0.0, following - time.monotonic())):
                sock: socket.socket = key.fileobj  # type: ignore[assignment]
                try:
                    if events & selectors.EVENT_READ:
                        answer = sock.recv(64)
                        if answer.split(b" ")[1:2] == [b"200"]:
                            return time.monotonic()
                        _forget(selector, pending, sock)
                    else:
                        sock.send(REQUEST)
                        selector.modify(sock, selectors.EVENT_READ)
                except OSError:
                    _forget(selector, pending, sock)
        return None
    finally:
        for sock in pending:
            sock.close()
        selector.close()


def main() -> None:
    """Answer each line on standard input by one on standard output."""
    print("ready", flush=True)
    for _line in sys.stdin:
        print(first_byte(), flush=True)


if __name__ == "__main__":
    main()
