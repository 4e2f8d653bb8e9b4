"""When a connection to Nova may be used again, with a Nova whose every byte the test decides."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from proxy_support import OK, REQUEST_ID, identity, on_loop, until

from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.request import OutgoingRequest, Request, RequestHead, render_request
from ovs_metadata.proxy.http.response import ResponsePart
from ovs_metadata.proxy.nova.pool import UpstreamPool

LEAK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nleaked"


class Receiver:
    """Collects an answer."""

    def __init__(self) -> None:
        self.parts = 0
        self.body = b""
        self.complete = False
        self.error: ProxyError | None = None

    def request_sent(self) -> None:
        pass

    def response_received(self, part: ResponsePart) -> None:
        self.parts += 1
        self.body += part.body
        self.complete = part.complete

    def request_failed(self, error: ProxyError) -> None:
        self.error = error


def request(method: bytes = b"GET", body: bytes = b"") -> OutgoingRequest:
    head = RequestHead(
        method=method,
        target=b"/",
        header_lines=b"Content-Length: %d\r\n" % len(body),
        http_1_1=True,
        keep_alive=True,
        chunked=False,
        expects_continue=False,
    )
    return render_request(Request(head, body), identity(2), REQUEST_ID)


@contextlib.asynccontextmanager
async def pool_and_listener() -> AsyncIterator[tuple[UpstreamPool, socket.socket]]:
    with socket.socket() as listener:
        # Small, so that a large request does not fit into the system's buffers.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        pool = UpstreamPool(Settings(nova_metadata_urls=(url,)))
        try:
            yield pool, listener
        finally:
            pool.close()


async def accept(listener: socket.socket) -> socket.socket:
    """Accept a connection and read (the beginning of) a request from it."""
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    assert b"X-Instance-ID" in await loop.sock_recv(connection, 1024)
    return connection


@on_loop
async def test_bytes_that_are_not_yet_read_forbid_to_use_a_connection_again() -> None:
    async with pool_and_listener() as (pool, listener):
        first, second = Receiver(), Receiver()
        pool.submit(request(), first)
        with await accept(listener) as connection:
            connection.send(OK)
            await until(lambda: first.complete)
            assert pool.idle_count == 1
            # No await between these two: the event loop has not seen the bytes.
            connection.send(LEAK)
            pool.submit(request(), second)
            with await accept(listener) as fresh:
                fresh.send(OK)
                await until(lambda: second.complete)
    assert second.body == b"ok"


@on_loop
async def test_an_end_that_is_not_yet_read_forbids_to_use_a_connection_again() -> None:
    async with pool_and_listener() as (pool, listener):
        first, second = Receiver(), Receiver()
        pool.submit(request(), first)
        with await accept(listener) as connection:
            connection.send(OK)
            await until(lambda: first.complete)
        sent = pool.submit(request(), second)
        assert sent.connection is None
        with await accept(listener) as fresh:
            fresh.send(OK)
            await until(lambda: second.complete)
    assert not sent.retried


@on_loop
async def test_an_answer_before_the_request_is_sent_ends_the_connection() -> None:
    async with pool_and_listener() as (pool, listener):
        receiver = Receiver()
        pool.submit(request(b"PUT", b"y" * 8 * 1024 * 1024), receiver)
        with await accept(listener) as connection:
            connection.send(OK)
            await until(lambda: receiver.complete)
            assert receiver.body == b"ok"
            assert pool.idle_count == 0


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\n" + OK, [b"", b"o", b"k"]),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\nz\r\n0\r\nT: t\r\n\r\n",
            [b"", b"z", b""],
        ),
    ],
)
@on_loop
async def test_head_body_and_end_are_progress_and_other_bytes_are_not(
    answer: bytes, parts: list[bytes]
) -> None:
    # Each part that is passed on renews the receiver's deadline.
    async with pool_and_listener() as (pool, listener):
        receiver = Receiver()
        sent = pool.submit(request(), receiver)
        with await accept(listener):
            connection = sent.connection
            assert connection is not None
            for byte in answer:
                connection.data_received(bytes([byte]))
            assert receiver.complete
            assert receiver.body == b"".join(parts)
            assert receiver.parts == len(parts)


@on_loop
async def test_after_close_nothing_is_connected_to() -> None:
    async with pool_and_listener() as (pool, listener):
        receiver = Receiver()
        sent = pool.submit(request(), receiver)
        pool.close()
        task = sent.connecting
        assert task is not None
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        listener.close()
    assert not receiver.complete
