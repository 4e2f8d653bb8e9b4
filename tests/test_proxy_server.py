"""Limits, isolation and stopping of the proxy server, over real sockets."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy_support import (
    OK,
    NovaConnection,
    answers,
    identity,
    identity_lines,
    on_loop,
    relay,
    until,
)
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from ovs_metadata.proxy import server as server_module
from ovs_metadata.proxy.control.identity import IdentityTable
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.guest import limits
from ovs_metadata.proxy.http.errors import ProxyError, render_error
from ovs_metadata.proxy.server import ProxyServer

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@on_loop
async def test_a_port_over_its_connection_limit_is_refused_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 3600.0)
    refused = render_error(ProxyError.TOO_MANY_CONNECTIONS, retry_after=1)
    # Two addresses of one port (IPv4 and IPv6 in a deployment) are counted together.
    entries = {
        "127.0.0.2": identity(2, port="p"),
        "127.0.0.3": identity(2, port="p"),
        "127.0.0.4": identity(4),
    }
    async with relay(answers(OK), entries=entries, max_connections_per_port=2) as (proxy, _):
        first, second = await proxy.guest(2), await proxy.guest(3)
        assert await first.get() == OK
        assert await second.get() == OK
        assert await proxy.exchange(GET, 2) == refused
        assert await proxy.exchange(b"", 3) == refused
        other = await proxy.guest(4)
        assert await other.get() == OK
        first.close()
        await until(lambda: proxy.server.connection_count == 2)
        third = await proxy.guest(2)
        assert await third.get() == OK


@on_loop
async def test_refusals_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 3600.0)
    async with relay(answers(OK), max_connections_per_port=2) as (proxy, _):
        for _ in range(2 + 5):
            await proxy.guest(2)
        await until(lambda: proxy.server.connection_count <= 2 * 2)
        # Five turned away within a second are too many: nothing of it reaches the worker any more.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await proxy.guest(2)
        other = await proxy.guest(3)
        assert await other.get() == OK
        assert proxy.server.connection_count <= 2 * 2 + 1


@on_loop
async def test_draining_finishes_requests_in_flight_and_accepts_no_more() -> None:
    release = asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        while await connection.request():
            await release.wait()
            await connection.send(OK)

    async with relay(script) as (proxy, nova):
        busy, fresh = await proxy.guest(2), await proxy.guest(3)
        await busy.send(GET + GET)
        await until(lambda: len(nova.requests) == 1 and proxy.server.connection_count == 2)
        draining = asyncio.create_task(proxy.server.drain())
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await proxy.guest(4)
        await fresh.send(GET)  # was on its way when the worker was asked to stop
        await until(lambda: len(nova.requests) == 2)
        release.set()
        closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert await busy.rest() == closing
        assert await fresh.rest() == closing
        assert await draining is True


@on_loop
async def test_draining_closes_idle_connections_at_once() -> None:
    async with relay(answers(OK)) as (proxy, _):
        guest = await proxy.guest()
        assert await guest.get() == OK
        assert await proxy.server.drain() is True
        assert await guest.rest() == b""


@on_loop
async def test_draining_is_bounded() -> None:
    async def script(connection: NovaConnection) -> None:
        while await connection.request():
            pass

    async with relay(script, drain_timeout=0.3) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        assert await proxy.server.drain() is False
        assert await guest.until_reset() == b""


PIECES = [
    b"GET / HTTP/1.1\r\n",
    b"POST /p HTTP/1.1\r\n",
    b"GET http://h/x HTTP/1.0\r\n",
    b"Host: h\r\n",
    b"X-Instance-ID: evil\r\n",
    b"x_instance_id: evil\r\n",
    b"X-Tenant_ID: evil\r\n",
    b"X-Instance-ID-Signature: evil\r\n",
    b"X-Forwarded-For: 6.6.6.6\r\n",
    b"Connection: X-Instance-ID, keep-alive\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Content-Length: 5\r\n",
    b"Content_Length: 50\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"\n",
    b"\r",
    b" ",
    b"\x00",
    b"X: y",
]
STREAM = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=25).map(b"".join)
VALID_START = st.sampled_from([b"", b"GET / HTTP/1.1\r\nHost: h\r\n", GET])
IDENTITY_NAMES = (
    b"x-instance-id",
    b"x-tenant-id",
    b"x-instance-id-signature",
    b"x-forwarded-for",
)


def identity_lines_of(request: bytes) -> list[bytes]:
    head = request.partition(b"\r\n\r\n")[0]
    lines = head.split(b"\r\n")[1:]
    return [
        line
        for line in lines
        if line.partition(b":")[0].lower().replace(b"_", b"-") in IDENTITY_NAMES
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(2, 8), stream=st.tuples(VALID_START, STREAM).map(b"".join))
def test_whatever_a_guest_sends_nova_gets_exactly_its_identity(number: int, stream: bytes) -> None:
    async def check() -> None:
        async with relay(answers(OK)) as (proxy, nova):
            guest = await proxy.guest(number)
            await guest.send(stream)
            await proxy.settle()  # and so the proxy still serves
            guest.close()
            await until(lambda: proxy.server.connection_count == 0)
            for request in nova.requests:
                sender = 9 if b" /settle " in request else number
                lines = identity_lines(sender).removesuffix(b"\r\n").split(b"\r\n")
                assert identity_lines_of(request) == lines

    on_loop(check)()


@on_loop
async def test_connections_whose_deadlines_pass_together_end_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "_SWEEP_INTERVAL", 3600.0)
    async with relay(answers(OK)) as (proxy, _):
        for _ in range(4):
            await proxy.guest()
        await until(lambda: proxy.server.connection_count == 4)
        for connection in proxy.server._registry:
            connection.deadline = 0.0
        proxy.server._sweep()
        await until(lambda: proxy.server.connection_count < 4)
        assert await (await proxy.guest(3)).get() == OK
        assert proxy.server.connection_count == 4


def test_it_is_used_as_any_tcp_server_of_tornado() -> None:
    """Bind, start, and start the loop: no running loop is needed before."""

    class Nova(RequestHandler):
        def get(self) -> None:
            self.write(self.request.headers["X-Instance-ID"])

    async def ask() -> None:
        try:
            client = AsyncHTTPClient(force_instance=True)
            response = await client.fetch(f"http://127.0.0.1:{port}/", request_timeout=10)
            bodies.append(response.body)
            client.close()
            server.stop()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        finally:
            loop.stop()

    bodies: list[bytes] = []
    loop = IOLoop(make_current=True)
    try:
        (socket_of_nova,) = bind_sockets(0, "127.0.0.1")
        nova = HTTPServer(Application([("/", Nova)]))
        nova.add_socket(socket_of_nova)
        url = f"http://127.0.0.1:{socket_of_nova.getsockname()[1]}"
        server = ProxyServer(
            Settings(nova_metadata_urls=(url,)), IdentityTable({"127.0.0.1": identity(2)})
        )
        server.bind(0, "127.0.0.1")
        port = server._sockets[0].getsockname()[1]
        server.start()
        loop.add_callback(ask)
        loop.start()
        server.close()
        nova.stop()
    finally:
        loop.close(all_fds=True)
    assert bodies == [b"instance-2"]


@on_loop
async def test_a_server_without_connections_looks_at_deadlines_rarely_and_at_a_first_ones_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "_IDLE_SWEEP_INTERVAL", 3600.0)
    async with relay(answers(OK)) as (proxy, _):
        loop = asyncio.get_running_loop()

        def next_sweep() -> float:
            assert proxy.server._next_sweep is not None
            return proxy.server._next_sweep.when() - loop.time()

        for _ in range(2):
            await until(lambda: next_sweep() > 3000)
            guest = await proxy.guest()
            await until(lambda: proxy.server.connection_count == 1)
            assert next_sweep() < 1
            assert await guest.get() == OK
            for connection in proxy.server._registry:
                connection.deadline = 0.0
            await until(lambda: proxy.server.connection_count == 0)


@on_loop
async def test_a_quarantine_ends_on_time_without_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "_IDLE_SWEEP_INTERVAL", 3600.0)
    async with relay(answers(OK)) as (proxy, _):
        now = asyncio.get_running_loop().time()
        quarantine = proxy.server._context.quarantine
        quarantine.record_abuse("127.0.0.2", now=now, tolerance=0, duration=0.3)
        proxy.server._sweep()
        await until(lambda: not quarantine)
