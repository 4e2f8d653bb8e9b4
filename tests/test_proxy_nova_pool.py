"""Connections to Nova: kept, used again, given up, over real sockets."""

import asyncio
import socket
import ssl
import struct
import subprocess
from pathlib import Path

import pytest
from proxy_support import (
    OK,
    NovaConnection,
    answers,
    on_loop,
    relay,
    running_nova,
    running_proxy,
    until,
)

from lab.rig.process import free_port
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.http.errors import ProxyError, render_error

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
BAD_ANSWER = render_error(ProxyError.BAD_ANSWER, retry_after=1)


def unreachable() -> str:
    """Return the URL of a port without a server."""
    return f"http://127.0.0.1:{free_port()}"


@on_loop
async def test_one_connection_to_nova_serves_many_guests() -> None:
    async with relay(answers(OK)) as (proxy, nova):
        for number in range(2, 10):
            guest = await proxy.guest(number)
            assert await guest.get() == OK
    assert nova.connections == 1
    assert len(nova.requests) == 8


@on_loop
async def test_requests_at_once_get_a_connection_each_and_all_are_kept() -> None:
    barrier = asyncio.Barrier(4)

    async def script(connection: NovaConnection) -> None:
        while await connection.request():
            await barrier.wait()
            await connection.send(OK)

    async with relay(script) as (proxy, nova):
        guests = [await proxy.guest(number) for number in range(2, 6)]
        for _ in range(3):
            assert await asyncio.gather(*(guest.get() for guest in guests)) == [OK] * 4
    assert nova.connections == 4


@pytest.mark.parametrize("reset", [False, True])
@on_loop
async def test_a_connection_nova_has_closed_meanwhile_never_surfaces(reset: bool) -> None:
    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(OK)
        if reset:
            transport = connection.writer.transport
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            transport.abort()

    async with relay(script) as (proxy, nova):
        guest = await proxy.guest()
        for _ in range(20):
            assert await guest.get() == OK
    assert nova.connections == 20


@on_loop
async def test_a_request_lost_on_a_kept_connection_is_sent_once_more() -> None:
    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()  # and closes, as if its idle time had just run out

    async with relay(script) as (proxy, nova):
        guest = await proxy.guest()
        for _ in range(5):
            assert await guest.get() == OK
    assert nova.connections == 5


@on_loop
async def test_a_request_is_sent_no_more_than_twice() -> None:
    async def script(connection: NovaConnection) -> None:
        await connection.request()

    async with relay(script) as (proxy, nova):
        assert await proxy.exchange(GET) == BAD_ANSWER
    assert len(nova.requests) == 2


@on_loop
async def test_a_request_is_not_repeated_once_a_byte_of_an_answer_came() -> None:
    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(b"H")

    async with relay(script) as (proxy, nova):
        assert await proxy.exchange(GET) == BAD_ANSWER
    assert len(nova.requests) == 1


@on_loop
async def test_a_post_is_never_sent_twice_and_never_on_a_kept_connection() -> None:
    post = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na"

    async def script(connection: NovaConnection) -> None:
        if (await connection.request()).startswith(b"GET"):
            await connection.send(OK)
            await connection.request()

    async with relay(script) as (proxy, nova):
        guest = await proxy.guest()
        assert await guest.get() == OK
        assert await proxy.exchange(post) == BAD_ANSWER
    assert len(nova.requests) == 2
    assert nova.connections >= 2  # and perhaps one of a trial


LEAK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nleaked"


@pytest.mark.parametrize("unsolicited", [LEAK, LEAK[:9], b"x", b"\r\nHTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("together", [True, False])
@on_loop
async def test_unsolicited_bytes_never_reach_a_guest(unsolicited: bytes, *, together: bool) -> None:
    sent = asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        if together:
            await connection.send(OK + unsolicited)
        else:
            await connection.send(OK)
            await connection.send(unsolicited)
        sent.set()
        while await connection.request():
            await connection.send(LEAK)

    async with relay(script) as (proxy, nova):
        for number in (2, 3, 4):
            sent.clear()
            guest = await proxy.guest(number)
            assert await guest.get() == OK
            await sent.wait()
    assert nova.connections == 3


@on_loop
async def test_bytes_that_come_while_a_connection_waits_close_it() -> None:
    send = asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await send.wait()
        await connection.send(LEAK)
        await connection.request()

    async with relay(script) as (proxy, nova):
        guest = await proxy.guest()
        assert await guest.get() == OK
        send.set()
        await until(lambda: nova.closed == 1)
        assert await guest.get() == OK
    assert nova.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    ],
)
@on_loop
async def test_a_connection_nova_will_close_is_not_kept(answer: bytes) -> None:
    async with relay(answers(answer)) as (proxy, nova):
        guest = await proxy.guest()
        assert await guest.get() == OK
        assert await guest.get() == OK
    assert nova.connections == 2


@on_loop
async def test_the_number_and_the_age_of_kept_connections_are_bounded() -> None:
    barrier = asyncio.Barrier(4)

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await barrier.wait()
        await connection.send(OK)
        await connection.request()

    async with relay(script, upstream_max_idle=1, upstream_idle_timeout=0.3) as (proxy, nova):
        guests = [await proxy.guest(number) for number in range(2, 6)]
        await asyncio.gather(*(guest.get() for guest in guests))
        await until(lambda: nova.closed == 3)
        await until(lambda: nova.closed == 4)


@on_loop
async def test_the_first_endpoint_that_accepts_is_used() -> None:
    async with (
        running_nova(answers(OK)) as second,
        running_nova(answers(OK)) as third,
        running_proxy(unreachable(), second.url, third.url) as proxy,
    ):
        guest = await proxy.guest()
        assert await guest.get() == OK
    assert (second.connections, third.connections) == (1, 0)
    assert b"\r\nHost: " + second.url.removeprefix("http://").encode() in second.requests[0]


@on_loop
async def test_new_endpoints_are_used_at_once() -> None:
    async with (
        running_nova(answers(OK)) as old,
        running_nova(answers(OK)) as new,
        running_proxy(old.url) as proxy,
    ):
        guest = await proxy.guest()
        assert await guest.get() == OK
        proxy.server.apply(Settings(nova_metadata_urls=(new.url,)))
        assert await guest.get() == OK
        await until(lambda: old.closed == 1)
    assert (len(old.requests), len(new.requests)) == (1, 1)


@on_loop
async def test_an_endpoint_that_never_accepts_is_given_up() -> None:
    # A full backlog: the system neither accepts nor refuses.
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with (
            running_nova(answers(OK)) as nova,
            running_proxy(url, nova.url, connect_timeout=0.2) as proxy,
        ):
            guest = await proxy.guest()
            assert await guest.get() == OK


@pytest.mark.parametrize("trusted", [True, False])
@on_loop
async def test_https_is_spoken_and_the_certificate_verified(
    *, trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with (
        running_nova(answers(OK), tls=context, name="localhost") as nova,
        running_proxy(nova.url) as proxy,
    ):
        if trusted:
            guest = await proxy.guest()
            assert await guest.get() == OK
            assert await guest.get() == OK
        else:
            failed = render_error(ProxyError.NO_ENDPOINT, retry_after=1)
            assert await proxy.exchange(GET) == failed
    assert len(nova.requests) == (2 if trusted else 0)
