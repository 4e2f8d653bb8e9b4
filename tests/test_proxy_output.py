"""What waits for a guest that does not read it: bounded in the kernel too, never cut silently."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from proxy_support import NovaConnection, Proxy, identity, on_loop, relay, until

from ovs_metadata.proxy.guest.connection import GuestConnection
from ovs_metadata.proxy.guest.state import READING, State
from ovs_metadata.proxy.server import SEND_BUFFER

_SO_MEMINFO = 55
"""linux/sock_diag.h: what a socket uses, as nine 32-bit numbers."""
_QUEUED_FOR_SENDING = 5

# In user space the event loop takes 64 KiB before it says that it has enough. So some of these
# answers are taken whole and not sent whole; the first fits in the kernel, the last nowhere.
SIZES = (*range(100_000, 900_000, 25_000), 16_000_000)

LIMITS = {"max_requests_per_port": 64, "access_log": "off"}


async def sized(connection: NovaConnection) -> None:
    """Answer with as many bytes as the path says, and the end of the connection after them."""
    requested = re.match(rb"GET /([0-9]+) ", await connection.request())
    assert requested
    size = int(requested[1])
    await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + size * b"x")


@asynccontextmanager
async def deaf_guests(proxy: Proxy) -> AsyncIterator[list[socket.socket]]:
    """Guests that have asked, by HTTP/1.0, for an answer of each size, and read nothing."""
    loop = asyncio.get_running_loop()
    guests = [socket.socket() for _ in SIZES]
    try:
        for guest, size in zip(guests, SIZES, strict=True):
            guest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            guest.setblocking(False)
            await loop.sock_connect(guest, ("127.0.0.2", proxy.port))
            await loop.sock_sendall(guest, b"GET /%d HTTP/1.0\r\n\r\n" % size)
        # Every answer that can be complete is.
        await until(
            lambda: states(proxy) == {State.STREAMING, State.CLOSING} and output_is_full(proxy)
        )
        yield guests
    finally:
        for guest in guests:
            guest.close()


async def ending(guest: socket.socket) -> tuple[int, bool]:
    """Read to the end; return the body's size, and whether the end looks like one."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    try:
        while piece := await loop.sock_recv(guest, 65536):
            data += piece
    except ConnectionResetError:
        return data.count(b"x"), False
    return data.count(b"x"), True


@pytest.mark.parametrize("cause", ["send timeout", "another instance"])
@on_loop
async def test_an_answer_that_was_not_sent_whole_ends_in_a_reset(cause: str) -> None:
    limits = {"send_timeout": 1.0 if cause == "send timeout" else 60.0, **LIMITS}
    async with relay(sized, **limits) as (proxy, _), deaf_guests(proxy) as guests:
        if cause != "send timeout":
            proxy.table.set("127.0.0.2", replace(identity(2), instance_id="another"))
        await until(lambda: proxy.server.connection_count == 0)
        endings = [await ending(guest) for guest in guests]
    assert len([each for each in endings if not each[1]]) > 1
    for (received, proper), size in zip(endings, SIZES, strict=True):
        assert received == size or not proper


def connections(proxy: Proxy) -> list[GuestConnection]:
    return list(proxy.server._registry)


def states(proxy: Proxy) -> set[State]:
    return {connection._state for connection in connections(proxy)}


def output_is_full(proxy: Proxy) -> bool:
    """Whether each answer waits for its own guest alone."""
    streaming = [each for each in connections(proxy) if each._state is State.STREAMING]
    return all(connection._output_full for connection in streaming)


@on_loop
async def test_what_the_kernel_keeps_for_a_guest_that_does_not_read_is_bounded() -> None:
    async with relay(sized, **LIMITS) as (proxy, _), deaf_guests(proxy):
        for connection in connections(proxy):
            sock = connection._transport._transport.get_extra_info("socket")
            used = struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))
            # One segment more may be begun (tcp_sendmsg), of at most 64 KiB.
            assert used[_QUEUED_FOR_SENDING] <= 2 * SEND_BUFFER + 64 * 1024


_MARK = 64 * 1024
"""Bytes in user space from which on the event loop says that there are enough."""


async def sized_for_ever(connection: NovaConnection) -> None:
    """Answer each request with as many bytes as its path says."""
    while raw := await connection.request():
        size = int(raw.split(b" ")[1].removeprefix(b"/"))
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + size * b"x")


@on_loop
async def test_nothing_is_asked_for_while_the_output_is_full() -> None:
    large = 20_000_000
    async with relay(sized_for_ever, access_log="off") as (proxy, nova):
        guest = await proxy.guest()
        guest.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: len(connections(proxy)) == 1)
        (connection,) = connections(proxy)
        transport = connection._transport._transport

        async def ask(size: int) -> None:
            asked = len(nova.requests)
            await guest.send(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % size)
            await until(lambda: len(nova.requests) > asked and connection._state in READING)

        # 100 Continue is what makes the output full.
        sizes = [1000]
        while not transport.get_write_buffer_size():
            await ask(sizes[-1])
            sizes.append(20_000)
        head = len(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n")
        last = _MARK - 10 - transport.get_write_buffer_size() - head
        await ask(last)
        assert not connection._output_full
        await guest.send(
            b"POST /%d HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
            % large
        )
        await until(lambda: connection._output_full)
        asked = len(nova.requests)
        await guest.send(b"hi")
        await until(lambda: connection._state is State.BACKED_UP)
        await (await proxy.guest(9)).get("/1")  # by then Nova had been asked
        assert len(nova.requests) == asked + 1
        assert transport.get_write_buffer_size() < _MARK + 100
        # It is asked for as soon as there is room, and what comes is bounded like any answer.
        guest.writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = 0
        while received < sum(sizes[:-1]) + last + large:
            received += (await guest.reader.read(1 << 20)).count(b"x")
