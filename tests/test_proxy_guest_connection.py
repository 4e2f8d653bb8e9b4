"""The error table, deadlines and identity changes of a guest's connection, over real sockets."""

import asyncio
import dataclasses
import socket
import struct

import pytest
from proxy_support import (
    OK,
    NovaConnection,
    answers,
    identity,
    identity_lines,
    on_loop,
    relay,
    running_proxy,
    until,
)

from ovs_metadata.proxy.control.identity import Entry, Pending
from ovs_metadata.proxy.http.errors import ProxyError, render_error

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
EXPECTING = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
PENDING = {"127.0.0.2": Pending("port-2", "secret reason"), "127.0.0.9": identity(9)}


def error(failure: ProxyError, *, head_only: bool = False) -> bytes:
    return render_error(failure, retry_after=1, head_only=head_only)


async def silent(connection: NovaConnection) -> None:
    """Take requests and say nothing."""
    while await connection.request():
        pass


MALFORMED = [
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET nowhere HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /#fragment HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /\x80 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\nHost: h\n\n",
    b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nX\x00: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nX : b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nX b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\na",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"
    b"\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
]
OTHERS = [
    (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", ProxyError.METHOD_REFUSED),
    (b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", ProxyError.METHOD_REFUSED),
    (b"get / HTTP/1.1\r\nHost: h\r\n\r\n", ProxyError.METHOD_REFUSED),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ProxyError.VERSION_REFUSED),
    (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", ProxyError.VERSION_REFUSED),
    (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", ProxyError.VERSION_REFUSED),
    (b"GET / HTTP/0.9\r\n\r\n", ProxyError.VERSION_REFUSED),
    (b"GET /\r\n\r\n", ProxyError.VERSION_REFUSED),
    (b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\n\r\n", ProxyError.EXPECTATION_REFUSED),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 65536 + b"\r\n\r\n", ProxyError.HEAD_TOO_LARGE),
    (b"GET /" + b"y" * 65536 + b" HTTP/1.1\r\nHost: h\r\n\r\n", ProxyError.HEAD_TOO_LARGE),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 70000, ProxyError.HEAD_TOO_LARGE),
    (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X:y\r\n" * 300 + b"\r\n", ProxyError.HEAD_TOO_LARGE),
    (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n", ProxyError.BODY_TOO_LARGE),
    (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"100001\r\n" + b"y" * 0x100001 + b"\r\n0\r\n\r\n",
        ProxyError.BODY_TOO_LARGE,
    ),
    (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        b"T: " + b"y" * 200_000,
        ProxyError.BODY_TOO_LARGE,
    ),
]


@pytest.mark.parametrize(
    ("request_bytes", "failure"),
    [*((request, ProxyError.MALFORMED) for request in MALFORMED), *OTHERS],
)
@on_loop
async def test_an_unacceptable_request_is_refused_and_never_reaches_nova(
    request_bytes: bytes, failure: ProxyError
) -> None:
    async with relay(answers(OK)) as (proxy, nova):
        # What follows it on the connection is not looked at.
        assert await proxy.exchange(request_bytes + GET) == error(failure)
    assert nova.requests == []
    assert nova.connections == 0


@on_loop
async def test_the_requests_before_a_malformed_one_are_served() -> None:
    async with relay(answers(OK)) as (proxy, _):
        data = await proxy.exchange(GET + GET + b"GARBAGE\r\n\r\n")
    assert data == OK + OK + error(ProxyError.MALFORMED)


@on_loop
async def test_a_header_block_of_exactly_the_limit_passes() -> None:
    start = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
    filler = b"y" * (64 * 1024 - len(start) - len(b"\r\n\r\n"))
    async with relay(answers(OK)) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(start + filler + b"\r\n\r\n")
        assert await guest.answer() == OK
        data = await proxy.exchange(start + filler + b"y\r\n\r\n")
        assert data == error(ProxyError.HEAD_TOO_LARGE)
    assert len(nova.requests) == 1


@on_loop
async def test_an_unknown_address_gets_404() -> None:
    async with relay(answers(OK), entries={}) as (proxy, nova):
        assert await proxy.exchange(GET) == error(ProxyError.NO_INTERFACE)
        head = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
        assert await proxy.exchange(head) == error(ProxyError.NO_INTERFACE, head_only=True)
        assert await proxy.exchange(EXPECTING) == error(ProxyError.NO_INTERFACE)
    assert nova.connections == 0


@on_loop
async def test_a_pending_identity_is_waited_for() -> None:
    async with relay(answers(OK), entries=dict(PENDING)) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        await proxy.settle()
        proxy.table.set("127.0.0.2", Pending("port-2", "still none"))
        proxy.table.set("127.0.0.2", identity(2))
        assert await guest.answer() == OK
    assert nova.requests[-1].endswith(identity_lines(2) + b"\r\n")


@on_loop
async def test_an_identity_that_stays_pending_is_503_with_retry_after() -> None:
    async with relay(answers(OK), entries=dict(PENDING), pending_timeout=0.2) as (proxy, nova):
        started = asyncio.get_running_loop().time()
        data = await proxy.exchange(GET)
        assert asyncio.get_running_loop().time() - started > 0.15
        assert data == error(ProxyError.NOT_READY)
        assert b"\r\nRetry-After: 1\r\n" in data
        assert data.startswith(b"HTTP/1.1 503 ")
    assert nova.connections == 0


@on_loop
async def test_100_continue_waits_for_the_identity() -> None:
    async with relay(answers(OK), entries=dict(PENDING), pending_timeout=0.5) as (proxy, _):
        assert await proxy.exchange(EXPECTING) == error(ProxyError.NOT_READY)
        guest = await proxy.guest()
        await guest.send(EXPECTING)
        await proxy.settle()
        proxy.table.set("127.0.0.2", identity(2))
        assert await guest.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await guest.send(b"abc")
        assert await guest.answer() == OK


@on_loop
async def test_the_identity_is_looked_up_for_every_request_of_a_connection() -> None:
    async with relay(answers(OK)) as (proxy, nova):
        guest = await proxy.guest(2)
        assert await guest.get() == OK
        proxy.table.set("127.0.0.2", identity(77, port="port-2"))
        assert await guest.get() == OK
        assert [
            request.endswith(identity_lines(n) + b"\r\n")
            for request, n in zip(nova.requests, (2, 77), strict=True)
        ] == [True, True]
        proxy.table.set("127.0.0.2", Pending("port-2", "vm-uuid differs"))
        proxy.server.apply(dataclasses.replace(proxy.server.settings, pending_timeout=0.1))
        await guest.send(GET)
        assert await guest.rest() == error(ProxyError.NOT_READY)


@pytest.mark.parametrize("before", [identity(2), Pending("port-2", "no record")])
@on_loop
async def test_what_one_port_has_sent_is_never_for_the_next_with_its_address(
    before: Entry,
) -> None:
    entries = {"127.0.0.2": before, "127.0.0.9": identity(9)}
    async with relay(answers(OK), entries=entries) as (proxy, nova):
        idle, asking = [await proxy.guest(2) for _ in range(2)]
        if isinstance(before, Pending):
            await asking.send(GET)
        await proxy.settle()
        proxy.table.set("127.0.0.2", identity(3))
        assert await idle.until_reset() == b""
        assert await asking.until_reset() == b""
        assert await (await proxy.guest(2)).get() == OK
    assert identity_lines(2) not in b"".join(nova.requests)
    assert b"".join(nova.requests).count(identity_lines(3)) == 1


@on_loop
async def test_connections_of_an_address_that_goes_away_are_closed() -> None:
    async with relay(silent) as (proxy, nova):
        idle, waiting, other = [await proxy.guest(n) for n in (2, 2, 3)]
        await waiting.send(GET)
        await other.send(GET)
        await until(lambda: len(nova.requests) == 2 and proxy.server.connection_count == 3)
        proxy.table.remove("127.0.0.2")
        assert await idle.until_reset() == b""
        assert await waiting.until_reset() == b""
        assert proxy.server.connection_count == 1
        await until(lambda: nova.closed == 1)  # the abandoned request's connection


@pytest.mark.parametrize("change", [identity(77), Pending("port-2", "vm-uuid differs")])
@on_loop
async def test_an_answer_is_never_given_to_another_instance(change: object) -> None:
    release = asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await release.wait()
        await connection.send(OK)

    async with relay(script) as (proxy, nova):
        guest = await proxy.guest(2)
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        assert isinstance(change, Pending | type(identity(2)))
        proxy.table.set("127.0.0.2", change)
        release.set()
        assert await guest.until_reset() == b""


@on_loop
async def test_a_new_signature_does_not_disturb_a_request_under_way() -> None:
    release = asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await release.wait()
        await connection.send(OK)

    async with relay(script) as (proxy, nova):
        guest = await proxy.guest(2)
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        proxy.table.set("127.0.0.2", dataclasses.replace(identity(2), signature="rotated"))
        release.set()
        assert await guest.answer() == OK


@on_loop
async def test_no_endpoint_is_503_with_retry_after() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with running_proxy(f"http://127.0.0.1:{port}") as proxy:
        data = await proxy.exchange(GET)
    assert data == error(ProxyError.NO_ENDPOINT)
    assert b"\r\nRetry-After: 1\r\n" in data


@on_loop
async def test_silence_of_nova_is_504_and_its_connection_is_given_up() -> None:
    async with relay(silent, response_timeout=0.2) as (proxy, nova):
        assert await proxy.exchange(GET) == error(ProxyError.ENDPOINT_SILENT)
        await until(lambda: nova.closed == 1)
    assert len(nova.requests) == 1  # it is not asked twice


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
@on_loop
async def test_an_unusable_answer_is_502(answer: bytes) -> None:
    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(answer)

    async with relay(script) as (proxy, _):
        data = await proxy.exchange(GET)
    assert data == error(ProxyError.BAD_ANSWER)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"Content-Length: 5\r\n\r\nabc"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ),
    ],
)
@on_loop
async def test_an_answer_cut_after_it_began_never_looks_whole(answer: bytes, seen: bytes) -> None:
    release = asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(answer)
        await release.wait()

    async with relay(script) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        data = await guest.reader.readuntil(b"abc")
        release.set()
        data += await guest.until_reset()
    assert data == b"HTTP/1.1 200 OK\r\n" + seen
    assert len(nova.requests) == 1


@on_loop
async def test_an_answer_delimited_by_close_that_is_reset_never_looks_whole_to_http_1_0() -> None:
    release = asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await release.wait()
        connection.writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        connection.writer.transport.abort()

    async with relay(script) as (proxy, _):
        guest = await proxy.guest()
        await guest.send(b"GET / HTTP/1.0\r\n\r\n")
        await guest.reader.readuntil(b"abc")
        release.set()
        assert await guest.until_reset() == b""


@on_loop
async def test_silence_of_nova_within_an_answer_cuts_it_short() -> None:
    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
        await connection.request()

    async with relay(script, response_timeout=0.2) as (proxy, _):
        guest = await proxy.guest()
        await guest.send(GET)
        assert (await guest.until_reset()).endswith(b"\r\n\r\nabc")


@on_loop
async def test_a_guest_that_leaves_takes_its_request_to_nova_along() -> None:
    async with relay(silent) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        guest.reset()
        await until(lambda: nova.closed == 1)
        await until(lambda: proxy.server.connection_count == 0)


@pytest.mark.parametrize("requests", [1, 3])
@on_loop
async def test_a_guest_that_has_shut_down_its_side_is_answered(requests: int) -> None:
    async def script(connection: NovaConnection) -> None:
        while await connection.request():
            await asyncio.sleep(0.05)  # so that the end of input is there before the answer is
            await connection.send(OK)

    async with relay(script) as (proxy, _):
        guest = await proxy.guest()
        await guest.send(GET * requests)
        guest.shut_down()
        assert (await guest.rest()).count(b"HTTP/1.1 200 OK") == requests


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: y", ProxyError.REQUEST_TIMEOUT),
        (b"GE", ProxyError.REQUEST_TIMEOUT),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab",
            ProxyError.REQUEST_TIMEOUT,
        ),
        (b"", None),
    ],
)
@on_loop
async def test_a_slow_sender_is_not_waited_for(sent: bytes, failure: ProxyError | None) -> None:
    limits = {"head_timeout": 0.2, "body_timeout": 0.2, "idle_timeout": 0.2}
    async with relay(answers(OK), **limits) as (proxy, nova):
        data = await proxy.exchange(sent)
        assert data == (error(failure) if failure else b"")
        await until(lambda: proxy.server.connection_count == 0)
    assert nova.connections == 0


@on_loop
async def test_trickling_does_not_prolong_the_time_for_a_head() -> None:
    async with relay(answers(OK), head_timeout=0.3) as (proxy, _):
        guest = await proxy.guest()
        await guest.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: ")

        async def trickle() -> None:
            while True:
                await guest.send(b"y")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        try:
            async with asyncio.timeout(5):
                assert await guest.rest() == error(ProxyError.REQUEST_TIMEOUT)
        finally:
            trickling.cancel()


@on_loop
async def test_a_guest_that_reads_nothing_stops_nova_and_is_cut_off() -> None:
    sent = 0
    total = 64 * 1024 * 1024

    async def script(connection: NovaConnection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            await connection.send(b"y" * 65536)
            sent += 65536

    async with relay(script, send_timeout=0.5) as (proxy, nova):
        guest = await proxy.guest()
        guest.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1 and proxy.server.connection_count == 0)
    # The rest stayed where it was, but for what the system's socket buffers hold.
    assert sent < total / 2


@on_loop
async def test_of_a_guest_that_pipelines_no_more_is_read_than_fits() -> None:
    total = 64 * 1024 * 1024

    async def script(connection: NovaConnection) -> None:
        while b" /settle " in (await connection.request()):
            await connection.send(OK)
        await connection.request()

    async with relay(script) as (proxy, _):
        guest = await proxy.guest()
        guest.writer.write(GET * (total // len(GET)))
        transport = guest.writer.transport
        left, before = transport.get_write_buffer_size(), -1
        while left != before:  # as long as the proxy takes anything
            before = left
            for _ in range(10):
                await proxy.settle()
            left = transport.get_write_buffer_size()
        # What is not left fills the system's socket buffers.
        assert left > total / 2
        transport.abort()
