"""A stand-in for Nova's metadata API whose speed is an argument.

`boot_storm_upstream.py PORT SLOTS SECONDS NAMESPACE` answers on 127.0.0.1:PORT, here and in that
network namespace: SLOTS requests at once, each in SECONDS, the others in a queue. A late
answer does not delay the next one, so the speed does not depend on this machine's. The
body begins with the instance the request was for. One thread; ends with SIGTERM.
"""

import asyncio
import heapq
import socket
import sys

import httptools
from pyroute2 import netns

READY = "answering"

BODY_LENGTH = 256
"""Bytes of an answer's body: most of Nova's are shorter, meta_data.json has some 1,000."""


class Pace:
    """Says when an answer is due."""

    def __init__(self, slots: int, seconds: float) -> None:
        self._free = [0.0] * slots
        self._seconds = seconds

    def due(self, now: float) -> float:
        """When a request that arrives now is answered; it takes the slot that is free first."""
        due = max(now, self._free[0]) + self._seconds
        heapq.heapreplace(self._free, due)
        return due


class Connection(asyncio.Protocol):
    """One connection; a request is answered when the pace allows."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._instance = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type only
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take note of whom the request is for."""
        if name.lower() == b"x-instance-id":
            self._instance = value

    def on_message_complete(self) -> None:
        """Answer, in due time."""
        body = self._instance.ljust(BODY_LENGTH)
        status = b"200 OK" if self._instance else b"400 Bad Request"
        self._instance = b""
        due = self._pace.due(self._loop.time())
        self._loop.call_at(due, self._answer, status, body)

    def _answer(self, status: bytes, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=UTF-8\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (status, len(body), body)
            )


def _listeners(port: int, namespace: str) -> list[socket.socket]:
    here = socket.create_server(("127.0.0.1", port), backlog=4096)
    netns.pushns(namespace)
    try:
        return [here, socket.create_server(("127.0.0.1", port), backlog=4096)]
    finally:
        netns.popns()


async def _serve(port: int, pace: Pace, namespace: str) -> None:
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: Connection(pace), sock=listener)
        for listener in _listeners(port, namespace)
    ]
    print(READY, flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Serve for ever."""
    port, slots, seconds, namespace = sys.argv[1:]
    asyncio.run(_serve(int(port), Pace(int(slots), float(seconds)), namespace))


if __name__ == "__main__":
    main()
