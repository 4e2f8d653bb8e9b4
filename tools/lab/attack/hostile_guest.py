"""A guest doing its worst: `python -m lab.attack.hostile_guest --target HOST:PORT ACT …`.

Each act is kept up by a number of tasks until the time is over; then a JSON object says how often
what became of it. One event loop, in a process of its own, so that what it costs is not the
observer's.
"""

import argparse
import asyncio
import contextlib
import json
import re
import resource
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

BIG = "/big"
"""What the act `unread` asks for: an answer of many MB."""

_GET = b"GET /hostile HTTP/1.1\r\nHost: h\r\n\r\n"
_CHUNKED = b"POST /hostile HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_MANY_FILES = 65536

_SMUGGLED = (
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nX-Instance-ID: other\r\nX_Instance_ID: other\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nA: b\nX-Instance-ID: other\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0" * 300,
)


@dataclass
class HostileGuest:
    """A guest that attacks, with its target and its results."""

    host: str
    port: int
    tally: Counter[str] = field(default_factory=Counter)
    held: list[socket.socket] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection, reset at the end, so that no port stays taken."""
        self.tally["attempts"] += 1
        reader, writer = await asyncio.open_connection(self.host, self.port)
        self.tally["connected"] += 1
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Read to the end, and count the statuses."""
        while data := await reader.read(1 << 18):
            for status in _STATUS.findall(data):
                self.tally[status.decode()] += 1

    async def send_until_answered(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        piece: bytes,
        *,
        interval: float,
    ) -> None:
        """Send the same again and again, every so many seconds, until the other side closes."""
        reading = asyncio.ensure_future(self.read(reader))
        try:
            while not reading.done() and not writer.is_closing():
                writer.write(piece)
                await writer.drain()
                await asyncio.wait([reading], timeout=interval)
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def send_on(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        """Send the same again and again, whatever is answered, until the connection is reset."""
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        self.tally["cut off"] += 1


async def flood(guest: HostileGuest) -> None:
    """Connect, say nothing, and never let go."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6 if ":" in guest.host else socket.AF_INET)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    guest.tally["attempts"] += 1
    try:
        await loop.sock_connect(sock, (guest.host, guest.port))
    except BaseException:
        sock.close()
        raise
    guest.tally["connected"] += 1
    guest.held.append(sock)
    if len(guest.held) > 5000:  # the oldest are long gone, from the other side
        guest.held.pop(0).close()


async def hang_up(guest: HostileGuest) -> None:
    """Connect and hang up."""
    async with guest.connection():
        pass


async def slow_head(guest: HostileGuest) -> None:
    """Send a head that never ends, a byte at a time."""
    async with guest.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nA: ")
        await guest.send_until_answered(reader, writer, b"b", interval=0.2)


async def slow_body(guest: HostileGuest) -> None:
    """Announce a body, and send a byte of it now and then."""
    async with guest.connection() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
        await guest.send_until_answered(reader, writer, b"b", interval=0.2)


async def pipeline(guest: HostileGuest) -> None:
    """Ask a thousand times in one go."""
    async with guest.connection() as (reader, writer):
        writer.write(999 * _GET + _GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await guest.read(reader)


async def ask(guest: HostileGuest) -> None:
    """Ask, on a new connection each time."""
    async with guest.connection() as (reader, writer):
        writer.write(_GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await guest.read(reader)


async def large_head(guest: HostileGuest) -> None:
    """Send 64 KiB of headers, and a little more."""
    async with guest.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n" + 64 * (b"A: " + 1024 * b"b" + b"\r\n"))
        await guest.read(reader)


async def endless_body(guest: HostileGuest) -> None:
    """Send chunks for ever."""
    async with guest.connection() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + 65536 * b"b" + b"\r\n"
        await guest.send_until_answered(reader, writer, chunk, interval=0)


async def empty_lines(guest: HostileGuest) -> None:
    """Send empty lines, and never a request."""
    async with guest.connection() as (_, writer):
        await guest.send_on(writer, 16384 * b"\r\n")


async def carriage_returns(guest: HostileGuest) -> None:
    """Send CR alone."""
    async with guest.connection() as (_, writer):
        await guest.send_on(writer, 32768 * b"\r")


async def line_feeds(guest: HostileGuest) -> None:
    """Send LF alone."""
    async with guest.connection() as (_, writer):
        await guest.send_on(writer, 32768 * b"\n")


async def empty_lines_between(guest: HostileGuest) -> None:
    """Ask a thousand times in one go, with as many empty lines as may be between requests."""
    async with guest.connection() as (reader, writer):
        last = _GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        writer.write(999 * (b"\r\n\r\n" + _GET) + last)
        await guest.read(reader)


async def endless_extension(guest: HostileGuest) -> None:
    """Send a chunk extension for ever."""
    async with guest.connection() as (_, writer):
        writer.write(_CHUNKED + b"1;")
        await guest.send_on(writer, 32768 * b"x")


async def endless_trailers(guest: HostileGuest) -> None:
    """Send trailers for ever."""
    async with guest.connection() as (_, writer):
        writer.write(_CHUNKED + b"0\r\n")
        await guest.send_on(writer, 4096 * b"A: b\r\n")


async def small_chunks(guest: HostileGuest) -> None:
    """Post a hundred bodies in one go, in as many chunks as may be."""
    async with guest.connection() as (reader, writer):
        writer.write(100 * (_CHUNKED + 100 * b"1\r\nb\r\n" + b"0\r\n\r\n"))
        writer.write(_GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await guest.read(reader)


async def bytes_of_a_head(guest: HostileGuest) -> None:
    """Send a head that never ends, a byte in each segment, as fast as that goes."""
    async with guest.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nA: ")
        await guest.send_until_answered(reader, writer, b"b", interval=0)


async def bytes_of_a_body(guest: HostileGuest) -> None:
    """Send a body that never ends, a byte in each segment, as fast as that goes."""
    async with guest.connection() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
        await guest.send_until_answered(reader, writer, b"b", interval=0)


async def bytes_behind_a_request(guest: HostileGuest) -> None:
    """Send single bytes behind a request whose answer it does not read."""
    async with guest.connection() as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined] # it is a read transport too
        writer.write(f"GET {BIG} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        await guest.send_on(writer, b"G")


async def bytes_behind_a_refusal(guest: HostileGuest) -> None:
    """Send single bytes behind a request that is refused."""
    async with guest.connection() as (_, writer):
        writer.write(b"\0")
        await guest.send_on(writer, b"G")


async def smuggle(guest: HostileGuest) -> None:
    """Send what servers disagree about."""
    for text in _SMUGGLED:
        async with guest.connection() as (reader, writer):
            writer.write(text)
            writer.write_eof()
            await guest.read(reader)


async def unread(guest: HostileGuest) -> None:
    """Ask for a large answer, and leave it unread until the other side has had enough."""
    async with guest.connection() as (_, writer):
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # it is a read transport too
        writer.write(f"GET {BIG} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        while not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) and _established(sock):
            await asyncio.sleep(0.1)
        guest.tally["cut off"] += 1


def _established(sock: socket.socket) -> bool:
    # The first byte of struct tcp_info is the state; 1 is TCP_ESTABLISHED (linux/tcp.h).
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1


Act = Callable[[HostileGuest], Awaitable[None]]

ACTS: dict[str, Act] = {
    act.__name__.replace("_", "-"): act
    for act in (
        flood,
        hang_up,
        slow_head,
        slow_body,
        pipeline,
        ask,
        large_head,
        endless_body,
        empty_lines,
        carriage_returns,
        line_feeds,
        empty_lines_between,
        endless_extension,
        endless_trailers,
        small_chunks,
        bytes_of_a_head,
        bytes_of_a_body,
        bytes_behind_a_request,
        bytes_behind_a_refusal,
        smuggle,
        unread,
    )
}


async def _keep_up(guest: HostileGuest, act: Act, name: str) -> None:
    while True:
        try:
            await act(guest)
        except OSError as error:
            guest.tally[type(error).__name__] += 1
            await asyncio.sleep(0.001)  # refusals may come without any waiting
        finally:
            guest.tally[name] += 1


async def _perform(guest: HostileGuest, acts: list[str], *, width: int, seconds: float) -> None:
    tasks = [
        asyncio.ensure_future(_keep_up(guest, ACTS[name], name))
        for name in acts
        for _ in range(width)
    ]
    done, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


def main() -> None:
    """Perform the acts of the command line; print the tally."""
    parser = argparse.ArgumentParser(prog="hostile_guest", description=__doc__)
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--width", type=int, default=16, help="tasks for each act")
    parser.add_argument("acts", nargs="+", choices=sorted(ACTS), metavar="ACT")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _MANY_FILES), most))
    host, _, port = options.target.rpartition(":")
    guest = HostileGuest(host.strip("[]"), int(port))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_perform(guest, options.acts, width=options.width, seconds=options.seconds))
    json.dump(guest.tally, sys.stdout)
    print()


if __name__ == "__main__":
    main()
