"""Several endpoints of Nova: which is asked, which is left alone, and the way back to the first."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from proxy_support import (
    OK,
    NovaConnection,
    Script,
    answers,
    identity,
    identity_lines,
    on_loop,
    running_nova,
    running_proxy,
    until,
)
from test_proxy_nova_connection import Receiver, request

from lab.rig.process import free_port
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.http.errors import ProxyError, render_error
from ovs_metadata.proxy.nova.connection import UpstreamConnection
from ovs_metadata.proxy.nova.endpoint_pool import connection_order
from ovs_metadata.proxy.nova.health import PROBE_INTERVAL
from ovs_metadata.proxy.nova.pool import UpstreamPool

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na"
NO_ENDPOINT = render_error(ProxyError.NO_ENDPOINT, retry_after=1)
BAD_ANSWER = render_error(ProxyError.BAD_ANSWER, retry_after=1)


def unreachable() -> str:
    return f"http://127.0.0.1:{free_port()}"


@contextlib.contextmanager
def unresponsive(*, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Return the URL of a port whose backlog is full: the system neither accepts nor refuses."""
    with socket.socket() as full, socket.socket() as filler:
        # So that it may be a port that `free_port` keeps.
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind((host, port))
        full.listen(0)
        filler.connect(full.getsockname())
        yield f"http://{host}:{full.getsockname()[1]}"


async def mute(connection: NovaConnection) -> None:
    """Close once a request is there."""
    await connection.request()


@on_loop
async def test_the_first_is_asked_again_as_soon_as_it_is_well_whatever_is_kept() -> None:
    port = free_port()
    first_url = f"http://127.0.0.1:{port}"
    async with (
        running_nova(answers(OK)) as second,
        running_proxy(first_url, second.url, endpoint_retry_interval=0.2) as proxy,
    ):
        guest = await proxy.guest()
        for _ in range(5):
            assert await guest.get() == OK
        assert (second.connections, len(second.requests)) == (1, 5)
        async with running_nova(answers(OK), port=port) as first:
            # No guest asks meanwhile: the pool itself finds out.
            await until(lambda: proxy.server.pool.health()[0].healthy is True)
            assert first.connections == 1
            assert await guest.get() == OK
            assert len(first.requests) == 1
            assert second.closed == 0  # there would have been a connection to it
        # And back, when the first goes away.
        assert await guest.get() == OK
        assert len(second.requests) == 6


@pytest.mark.parametrize("what", [GET, POST])
@on_loop
async def test_a_request_that_found_no_connection_goes_to_the_next(what: bytes) -> None:
    async with (
        running_nova(answers(OK)) as second,
        running_proxy(unreachable(), second.url) as proxy,
    ):
        guest = await proxy.guest()
        await guest.send(what)
        assert await guest.answer() == OK


@pytest.mark.alone
@on_loop
async def test_a_silent_endpoint_delays_a_guest_once() -> None:
    with unresponsive() as url:
        async with (
            running_nova(answers(OK)) as second,
            running_proxy(
                url, second.url, connect_timeout=1.0, endpoint_retry_interval=0.1
            ) as proxy,
        ):
            guest = await proxy.guest()
            assert await guest.get() == OK
            await until(lambda: proxy.server.pool.health()[0].healthy is False)
            begun = time.monotonic()
            while time.monotonic() < begun + 1.5:  # several attempts are made meanwhile
                asked = time.monotonic()
                await guest.send(POST)  # needs a fresh connection each
                assert await guest.answer() == OK
                assert time.monotonic() < asked + 0.5


@on_loop
async def test_the_next_endpoint_is_not_kept_waiting_for_the_connect_timeout() -> None:
    with unresponsive() as url, unresponsive() as another:
        async with (
            running_nova(answers(OK)) as third,
            running_proxy(url, another, third.url, connect_timeout=1000.0) as proxy,
        ):
            guest = await proxy.guest()
            await guest.send(POST)
            assert await guest.answer() == OK


@on_loop
async def test_endpoints_of_which_none_is_well_are_tried_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ovs_metadata.proxy.nova.pool._ENDPOINT_DELAY", 1000.0)
    port = free_port()
    with unresponsive() as first, unresponsive() as second:
        urls = (first, second, f"http://127.0.0.1:{port}")
        async with running_proxy(
            *urls, connect_timeout=0.1, endpoint_retry_interval=1000.0
        ) as proxy:
            assert await proxy.exchange(GET) == NO_ENDPOINT
            proxy.server.apply(replace(proxy.server.pool.settings, connect_timeout=1000.0))
            guest = await proxy.guest()
            async with running_nova(answers(OK), port=port):
                await guest.send(POST)
                assert await guest.answer() == OK


@pytest.mark.alone
@on_loop
async def test_the_time_until_a_guest_hears_of_dead_endpoints_is_as_documented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ovs_metadata.proxy.nova.pool._ENDPOINT_DELAY", 0.1)
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(unresponsive()) for _ in range(6)]
        async with running_proxy(*urls, connect_timeout=0.5, unavailable_timeout=0.6) as proxy:
            for longest in (0.5 + 5 * 0.1, 0.6):  # the first request, then one that knows
                begun = time.monotonic()
                assert await proxy.exchange(GET) == NO_ENDPOINT
                # One after the other they would take 3 s.
                assert longest - 0.05 < time.monotonic() - begun < 2.7


@on_loop
async def test_one_that_speaks_no_http_is_left_alone() -> None:
    async with (
        running_nova(answers(b"SSH-2.0-OpenSSH_9.2\r\n")) as first,
        running_nova(answers(OK)) as second,
        running_proxy(first.url, second.url, endpoint_retry_interval=0.1) as proxy,
    ):
        assert await proxy.exchange(GET) == BAD_ANSWER
        await until(lambda: proxy.server.pool.health()[0].healthy is False)
        guest = await proxy.guest()
        # It gets its chance again and again, but no guest's request.
        tried = first.trials
        while first.trials < tried + 3:
            assert await guest.get() == OK
        assert len(first.requests) == 1


@on_loop
async def test_a_guest_does_not_decide_which_endpoint_is_well() -> None:
    async def hangs_up_on_large_heads(connection: NovaConnection) -> None:
        while len(await connection.request()) in range(1, 4096):
            await connection.send(OK)

    large = b"Host: h\r\nX: %b\r\n" % (b"y" * 5000)
    async with (
        running_nova(hangs_up_on_large_heads) as first,
        running_nova(hangs_up_on_large_heads) as second,
        running_proxy(first.url, second.url, endpoint_retry_interval=60.0) as proxy,
    ):
        for _ in range(10):
            get = await proxy.exchange(b"GET / HTTP/1.1\r\n%b\r\n" % large)
            post = b"POST / HTTP/1.1\r\n%bContent-Length: 1\r\n\r\na" % large
            assert [get, await proxy.exchange(post)] == [BAD_ANSWER, BAD_ANSWER]
            asked = len(first.requests)
            assert await (await proxy.guest(3)).get() == OK
            assert len(first.requests) == asked + 1
        await until(lambda: (first.trials, second.trials) == (1, 1))
        assert all(each.healthy for each in proxy.server.pool.health())


@on_loop
async def test_a_request_unanswered_by_one_is_answered_by_the_next() -> None:
    async with (
        running_nova(mute) as first,
        running_nova(answers(OK)) as second,
        running_proxy(first.url, second.url) as proxy,
    ):
        for number in (2, 3):
            guest = await proxy.guest(number)
            assert await guest.get() == OK
    assert (len(first.requests), len(second.requests)) == (1, 2)
    assert identity_lines(2) in first.requests[0]
    assert identity_lines(2) in second.requests[0]


@on_loop
async def test_a_post_unanswered_by_one_is_not_sent_to_the_next() -> None:
    async with (
        running_nova(mute) as first,
        running_nova(answers(OK)) as second,
        running_proxy(first.url, second.url) as proxy,
    ):
        assert await proxy.exchange(POST) == BAD_ANSWER
    assert (len(first.requests), len(second.requests)) == (1, 0)


@on_loop
async def test_where_none_is_well_each_request_tries_them_all() -> None:
    port = free_port()
    async with running_proxy(
        unreachable(), f"http://127.0.0.1:{port}", endpoint_retry_interval=1000.0
    ) as proxy:
        assert await proxy.exchange(GET) == NO_ENDPOINT
        async with running_nova(answers(OK), port=port):
            guest = await proxy.guest()
            assert await guest.get() == OK


@pytest.mark.parametrize(
    ("script", "error"), [(None, "Connect"), (mute, "ended"), (answers(b"x\r\n\r\n"), "")]
)
@on_loop
async def test_what_is_wrong_with_an_endpoint_can_be_seen(
    script: Script | None, error: str
) -> None:
    async with running_nova(script or mute) as nova, running_nova(answers(OK)) as second:
        url = nova.url if script else unreachable()
        pool = UpstreamPool(Settings(nova_metadata_urls=(url, second.url)))
        begun = time.time()
        first, last = pool.health()
        assert (first.url, first.healthy, first.last_error) == (url, None, "")
        receiver = Receiver()
        pool.submit(request(), receiver)
        await until(lambda: receiver.complete or receiver.error is not None)
        first, last = pool.health()
        assert (first.url, first.healthy) == (url, False)
        assert first.last_error
        assert error in first.last_error
        assert begun - 1 < first.since < time.time() + 1
        assert (last.url, last.last_error) == (second.url, "")
        assert last.healthy is not False
        pool.close()


@on_loop
async def test_a_kept_connection_that_nova_closes_says_nothing_against_it() -> None:
    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()

    async with running_nova(script) as nova:
        pool = UpstreamPool(Settings(nova_metadata_urls=(nova.url,)))
        for _ in range(4):
            receiver = Receiver()
            pool.submit(request(), receiver)
            await until(lambda receiver=receiver: receiver.complete)  # type: ignore[misc]
        assert pool.health()[0].healthy
        assert nova.connections == 4
        pool.close()


@on_loop
async def test_one_that_takes_requests_and_says_nothing_is_left_alone() -> None:
    async def silent(connection: NovaConnection) -> None:
        await connection.request()
        await connection.request()

    async with (
        running_nova(silent) as first,
        running_nova(answers(OK)) as second,
        running_proxy(
            first.url,
            second.url,
            response_timeout=0.3,
            connect_timeout=0.3,
            endpoint_retry_interval=60.0,
        ) as proxy,
    ):
        assert (await proxy.exchange(GET)).startswith(b"HTTP/1.1 504 ")
        await until(lambda: proxy.server.pool.health()[0].healthy is False)
        assert await (await proxy.guest()).get() == OK
        silent_one, other = proxy.server.pool.health()
        assert silent_one.last_error == "it did not answer in time"
        assert other.healthy


@on_loop
async def test_a_nova_that_is_back_in_time_was_never_away() -> None:
    port = free_port()
    async with running_proxy(f"http://127.0.0.1:{port}", unavailable_timeout=30.0) as proxy:
        guest = await proxy.guest()
        await guest.send(POST)
        await until(lambda: proxy.server.pool.health()[0].healthy is False)
        async with running_nova(answers(OK), port=port) as nova:
            assert await guest.answer() == OK
            assert len(nova.requests) == 1


@on_loop
async def test_all_requests_that_wait_share_one_trial() -> None:
    port = free_port()
    async with running_proxy(
        f"http://127.0.0.1:{port}", unavailable_timeout=30.0, max_requests_per_port=50
    ) as proxy:
        guests = [await proxy.guest() for _ in range(20)]
        for guest in guests:
            await guest.send(GET)
        await until(lambda: proxy.server.pool.health()[0].healthy is False)
        tried = 0
        pool = proxy.server.pool
        original = pool._endpoints[0].open

        async def count() -> UpstreamConnection:
            nonlocal tried
            tried += 1
            return await original()

        pool._endpoints[0].open = count  # type: ignore[method-assign]
        await until(lambda: tried >= 2)
        assert tried == 2
        async with running_nova(answers(OK), port=port):
            assert [await guest.answer() for guest in guests] == [OK] * 20


@on_loop
async def test_what_waits_for_nova_is_signed_as_it_is_when_it_is_sent() -> None:
    port = free_port()
    async with running_proxy(f"http://127.0.0.1:{port}", unavailable_timeout=30.0) as proxy:
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: proxy.server.pool.health()[0].healthy is False)
        proxy.table.set("127.0.0.2", replace(identity(2), signature="rotated"))
        async with running_nova(answers(OK), port=port) as nova:
            assert await guest.answer() == OK
            assert b"X-Instance-ID-Signature: rotated\r\n" in nova.requests[0]


@on_loop
async def test_what_is_sent_again_is_signed_as_it_is_when_it_is_sent_again() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        if asked.is_set():
            await connection.send(OK)
            await connection.request()
        else:
            asked.set()
            await go_on.wait()  # and closes, as a Nova that is restarted with the new secret

    async with running_nova(script) as nova, running_proxy(nova.url) as proxy:
        guest = await proxy.guest()
        await guest.send(GET)
        await asked.wait()
        now = replace(identity(2), signature="rotated", fixed_ip="10.0.0.77")
        proxy.table.set("127.0.0.2", now)
        go_on.set()
        assert await guest.answer() == OK
    assert identity_lines(2) in nova.requests[0]
    assert b"X-Instance-ID-Signature: rotated\r\n" in nova.requests[1]
    assert b"X-Forwarded-For: 10.0.0.77\r\n" in nova.requests[1]


# A host name that has several addresses.


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert host == "nova.example"
        assert port
        return list(addresses)

    monkeypatch.setattr("ovs_metadata.proxy.nova.endpoint_pool.resolve", resolve)


@on_loop
async def test_all_addresses_of_a_name_are_tried_and_the_one_that_works_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.4")
    port = free_port()  # of all addresses
    async with running_nova(answers(OK), host="127.0.0.4", port=port) as nova:
        with (
            unresponsive(host="127.0.0.2", port=port),
            unresponsive(host="127.0.0.3", port=port),
        ):
            url = f"http://nova.example:{port}"
            async with running_proxy(url, connect_timeout=1000.0) as proxy:
                guest = await proxy.guest()
                await guest.send(POST)
                assert await guest.answer() == OK
                # And from now on without any wait for the others.
                monkeypatch.setattr("ovs_metadata.proxy.nova.endpoint_pool.ADDRESS_DELAY", 1000.0)
                for _ in range(3):
                    await guest.send(POST)
                    assert await guest.answer() == OK
                assert f"Host: nova.example:{port}\r\n".encode() in nova.requests[0]


@on_loop
async def test_an_address_that_refuses_costs_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovs_metadata.proxy.nova.endpoint_pool.ADDRESS_DELAY", 1000.0)
    resolve_to(monkeypatch, "127.0.0.2", "::1", "127.0.0.4")
    port = free_port()
    async with (
        running_nova(answers(OK), host="127.0.0.4", port=port),
        running_proxy(f"http://nova.example:{port}", connect_timeout=1000.0) as proxy,
    ):
        assert await (await proxy.guest()).get() == OK


@pytest.mark.alone
@on_loop
async def test_a_name_none_of_whose_addresses_answers_costs_one_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ovs_metadata.proxy.nova.endpoint_pool.ADDRESS_DELAY", 0.01)
    addresses = [f"127.0.0.{number}" for number in range(11, 19)]
    resolve_to(monkeypatch, *addresses)
    with contextlib.ExitStack() as stack:
        port = free_port()
        for address in addresses:
            stack.enter_context(unresponsive(host=address, port=port))
        async with running_proxy(f"http://nova.example:{port}", connect_timeout=0.5) as proxy:
            begun = time.monotonic()
            assert await proxy.exchange(GET) == NO_ENDPOINT
            assert time.monotonic() - begun < 3.5  # and not eight times 0.5 s
            assert proxy.server.pool.health()[0].last_error == "connecting timed out"


@pytest.mark.parametrize(
    ("addresses", "worked", "order"),
    [
        (["::1", "::2", "10.0.0.1", "10.0.0.2"], "", ["::1", "10.0.0.1", "::2", "10.0.0.2"]),
        (["10.0.0.1", "::1", "::2", "::1"], "", ["10.0.0.1", "::1", "::2"]),
        (["::1", "10.0.0.1", "::2"], "::2", ["::2", "::1", "10.0.0.1"]),
        (["::1", "10.0.0.1"], "10.9.9.9", ["::1", "10.0.0.1"]),
    ],
)
def test_families_alternate_and_what_worked_comes_first(
    addresses: list[str], worked: str, order: list[str]
) -> None:
    assert connection_order(addresses, worked=worked) == order


# Requests in flight while the settings change, or that fail in an unforeseen way.


@on_loop
async def test_a_connection_in_use_is_not_kept_once_its_endpoint_is_replaced() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        asked.set()
        await go_on.wait()
        await connection.send(OK)
        await connection.request()

    async with running_nova(script) as old, running_nova(answers(OK)) as new:
        pool = UpstreamPool(Settings(nova_metadata_urls=(old.url,)))
        receiver = Receiver()
        pool.submit(request(), receiver)
        await asked.wait()
        pool.apply(Settings(nova_metadata_urls=(new.url,)))
        go_on.set()
        await until(lambda: receiver.complete)
        await until(lambda: old.closed == 1)
        pool.close()


@pytest.mark.parametrize("gone", [False, True])
@on_loop
async def test_an_unforeseen_failure_is_logged_and_reported_to_waiting_guests(
    *, gone: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def broken(host: str, port: int) -> list[str]:
        begun.set()
        await go_on.wait()
        raise RuntimeError(host, port)

    monkeypatch.setattr("ovs_metadata.proxy.nova.endpoint_pool.resolve", broken)
    pool = UpstreamPool(Settings(nova_metadata_urls=("http://nova.example",)))
    receiver = Receiver()
    sent = pool.submit(request(), receiver)
    await begun.wait()
    if gone:
        sent.receiver = None
    go_on.set()
    await until(lambda: "unexpected error while connecting to Nova" in caplog.text)
    assert receiver.error is (None if gone else ProxyError.NO_ENDPOINT)
    pool.close()


@on_loop
async def test_endpoints_are_probed_though_no_guest_asks() -> None:
    later = 0.0
    asked = asyncio.get_running_loop().time
    async with running_nova(answers(OK)) as nova:
        urls = (nova.url, gone := unreachable())
        pool = UpstreamPool(Settings(nova_metadata_urls=urls), lambda: asked() + later)
        assert [each.healthy for each in pool.health()] == [None, None]
        later = 1.0
        pool.sweep(pool.now())
        pool.sweep(pool.now())  # while the first probe runs
        await until(lambda: [each.healthy for each in pool.health()] == [True, False])
        assert (pool.health()[1].url, "Connect" in pool.health()[1].last_error) == (gone, True)
        await until(lambda: nova.closed == 1)
        assert (nova.connections, nova.requests) == (1, [])
        later += PROBE_INTERVAL * 0.4
        pool.sweep(pool.now())
        later += PROBE_INTERVAL * 1.2
        pool.sweep(pool.now())
        await until(lambda: nova.closed == 2)
        pool.close()
    assert (nova.connections, nova.requests) == (2, [])


@on_loop
async def test_a_healthy_endpoint_that_goes_away_is_noticed_without_a_guest() -> None:
    later = 0.0
    asked = asyncio.get_running_loop().time
    async with running_nova(answers(OK)) as nova:
        pool = UpstreamPool(Settings(nova_metadata_urls=(nova.url,)), lambda: asked() + later)
        receiver = Receiver()
        pool.submit(request(), receiver)
        await until(lambda: receiver.complete)
        assert pool.health()[0].healthy is True
    later = PROBE_INTERVAL * 2
    pool.sweep(pool.now())
    await until(lambda: pool.health()[0].healthy is False)
    pool.close()


@on_loop
async def test_a_proxy_probes_its_endpoints() -> None:
    async with (
        running_nova(answers(OK)) as nova,
        running_proxy(nova.url, probes=True) as proxy,
    ):
        guest = await proxy.guest()  # with a connection there are ten sweeps a second
        await until(lambda: proxy.server.pool.health()[0].healthy is True)
        assert nova.requests == []
        guest.close()
