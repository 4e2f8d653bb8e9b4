"""What one port may use of the proxy, and that others do not notice."""

import asyncio
import contextlib
import socket
from dataclasses import replace

import pytest
from proxy_support import (
    OK,
    Guest,
    NovaConnection,
    Proxy,
    answers,
    identity,
    on_loop,
    relay,
    until,
)

from ovs_metadata.proxy.control.identity import Entry, Pending
from ovs_metadata.proxy.guest import limits as limits_module
from ovs_metadata.proxy.guest.connection import GuestConnection
from ovs_metadata.proxy.guest.limits import SMALL_BODY

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Gate:
    """A Nova that answers when the test makes it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = 0

    async def script(self, connection: NovaConnection) -> None:
        while await connection.request():
            self.asked += 1
            await self.open.wait()
            await connection.send(OK)


async def settle(proxy: Proxy) -> None:
    """Wait until the proxy has read what the guests have sent so far, without asking Nova."""
    assert (await proxy.exchange(b"?\r\n\r\n", 9)).startswith(b"HTTP/1.1 400 ")


@on_loop
async def test_over_the_rate_limit_a_port_gets_retry_after() -> None:
    async with relay(answers(OK), rate_limit=0.5, rate_limit_burst=3) as (proxy, nova):
        guest = await proxy.guest()
        for _ in range(3):
            assert await guest.get() == OK
        await guest.send(GET)
        refused = await guest.rest()
        assert refused.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"\r\nRetry-After: 2\r\n" in refused
        # It counts for the port, not for a connection, and for no other port.
        assert (await proxy.exchange(GET)).startswith(b"HTTP/1.1 429 ")
        assert await (await proxy.guest(3)).get() == OK
        assert len(nova.requests) == 4


@on_loop
async def test_both_families_of_a_port_have_one_rate_limit() -> None:
    entries = {"127.0.0.2": identity(2), "127.0.0.3": identity(2)}
    limits = {"rate_limit": 0.5, "rate_limit_burst": 1}
    async with relay(answers(OK), entries=entries, **limits) as (proxy, _nova):
        assert await (await proxy.guest(2)).get() == OK
        assert (await proxy.exchange(GET, 3)).startswith(b"HTTP/1.1 429 ")


@on_loop
async def test_without_a_rate_limit_nothing_is_counted() -> None:
    async with relay(answers(OK), rate_limit_burst=1) as (proxy, _nova):
        guest = await proxy.guest()
        for _ in range(50):
            assert await guest.get() == OK


@on_loop
async def test_a_port_has_only_so_many_requests_under_way() -> None:
    gate = Gate()
    async with relay(gate.script, max_requests_per_port=2) as (proxy, nova):
        guests = [await proxy.guest(2) for _ in range(5)]
        for guest in guests:
            await guest.send(GET)
        await until(lambda: gate.asked == 2)
        other = await proxy.guest(3)
        await other.send(GET)
        await until(lambda: gate.asked == 3)
        assert sum(b"instance-2" in request for request in nova.requests) == 2
        gate.open.set()
        assert [await guest.answer() for guest in guests] == [OK] * 5


@on_loop
async def test_leaving_the_queue_does_not_block_others() -> None:
    gate = Gate()
    async with relay(gate.script, max_requests_per_port=1) as (proxy, nova):
        first, leaving, last = [await proxy.guest(2) for _ in range(3)]
        await first.send(GET)
        await until(lambda: gate.asked == 1)
        await leaving.send(GET)
        await settle(proxy)
        await last.send(GET)
        await settle(proxy)
        leaving.reset()
        first.reset()  # and its turn goes to the next
        await until(lambda: gate.asked == 2)
        gate.open.set()
        assert await last.answer() == OK
        assert len(nova.requests) == 2


@on_loop
async def test_a_request_that_gets_its_slot_is_answered_for_the_instance_of_that_moment() -> None:
    gate = Gate()
    async with relay(gate.script, max_requests_per_port=1) as (proxy, nova):
        first, waiting = await proxy.guest(2), await proxy.guest(2)
        await first.send(GET)
        await until(lambda: gate.asked == 1)
        await waiting.send(GET)
        await settle(proxy)
        rebuilt = replace(identity(2), instance_id="another")
        proxy.table.set("127.0.0.2", rebuilt)  # what was under way is cut off
        await until(lambda: gate.asked == 2)
        gate.open.set()
        assert await waiting.answer() == OK
        assert b"X-Instance-ID: another\r\n" in nova.requests[1]


@on_loop
async def test_a_request_that_waits_too_long_for_a_slot_gets_503() -> None:
    gate = Gate()
    async with relay(gate.script, max_requests_per_port=1) as (proxy, _nova):
        first, waiting = await proxy.guest(2), await proxy.guest(2)
        await first.send(GET)
        await until(lambda: gate.asked == 1)
        proxy.server.apply(replace(proxy.server.settings, response_timeout=0.3))
        await waiting.send(GET)
        assert (await waiting.rest()).startswith(b"HTTP/1.1 503 ")
        gate.open.set()
        assert await first.answer() == OK


@on_loop
async def test_beyond_all_connections_the_most_crowded_port_loses_one() -> None:
    async with relay(answers(OK), max_connections=4) as (proxy, _nova):
        crowd = [await proxy.guest(2) for _ in range(4)]
        for guest in crowd:
            assert await guest.get() == OK
        newcomer = await proxy.guest(3)
        assert await newcomer.get() == OK
        await until(lambda: any(is_over(guest) for guest in crowd))
        assert proxy.server.connection_count == 4
        left = [guest for guest in crowd if not is_over(guest)]
        assert [await guest.get() for guest in left] == 3 * [OK]
        assert await newcomer.get() == OK


@on_loop
async def test_a_connection_that_is_cut_for_room_is_one_without_a_request() -> None:
    gate = Gate()
    limits = {"max_connections": 8, "max_requests_per_port": 8}
    async with relay(gate.script, **limits) as (proxy, _nova):
        busy = [await proxy.guest(2) for _ in range(7)]
        for guest in busy:
            await guest.send(GET)
        await until(lambda: gate.asked == 7)
        idle = await proxy.guest(2)
        await until(lambda: proxy.server.connection_count == 8)
        await proxy.guest(3)
        await until(lambda: is_over(idle))
        gate.open.set()
        assert [await guest.answer() for guest in busy] == 7 * [OK]


def is_eof(guest: Guest) -> bool:
    """Whether the end of a guest's connection is here, behind what it has not read yet."""
    return bool(guest.reader._eof)  # type: ignore[attr-defined]


def is_over(guest: Guest) -> bool:
    """Whether a guest has seen the end of its connection."""
    return guest.reader.at_eof() or guest.reader.exception() is not None


@pytest.mark.parametrize(
    ("unfinished", "last"),
    [
        (b"", b""),
        (GET, OK),
        (GET[:-1], b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 408 "),
    ],
    ids=["silent", "kept", "head", "body"],
)
@on_loop
async def test_an_unused_connection_makes_way_for_another_one_of_its_port(
    monkeypatch: pytest.MonkeyPatch, unfinished: bytes, last: bytes
) -> None:
    monkeypatch.setattr(limits_module, "PATIENCE", 0.0)
    async with relay(answers(OK), max_connections_per_port=2) as (proxy, _nova):
        other = await proxy.guest(3)
        guests = [await proxy.guest(2) for _ in range(2)]
        for guest in guests:
            await guest.send(unfinished)
            await settle(proxy)
        newcomer = await proxy.guest(2)
        assert await newcomer.get() == OK
        await until(lambda: any(is_eof(guest) for guest in guests))
        (over,) = (guest for guest in guests if is_eof(guest))
        assert (await over.rest()).startswith(last)
        assert await other.get() == OK


@on_loop
async def test_a_connection_with_a_request_makes_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "PATIENCE", 0.0)
    gate = Gate()
    limits = {"max_connections_per_port": 2, "max_requests_per_port": 1}
    async with relay(gate.script, **limits) as (proxy, _nova):
        guests = [await proxy.guest(2) for _ in range(2)]
        for guest in guests:
            await guest.send(GET)
        await settle(proxy)
        assert (await proxy.exchange(b"")).startswith(b"HTTP/1.1 503 ")
        gate.open.set()
        assert [await guest.answer() for guest in guests] == 2 * [OK]


@on_loop
async def test_waiting_requests_get_slots_when_the_limit_is_raised() -> None:
    gate = Gate()
    async with relay(gate.script, max_requests_per_port=1) as (proxy, _nova):
        guests = [await proxy.guest(2) for _ in range(4)]
        await guests[0].send(GET)
        await until(lambda: gate.asked == 1)
        for guest in guests[1:]:
            await guest.send(GET)
        await settle(proxy)
        proxy.server.apply(replace(proxy.server.settings, max_requests_per_port=3))
        await until(lambda: gate.asked == 3)
        gate.open.set()
        assert [await guest.answer() for guest in guests] == 4 * [OK]


@on_loop
async def test_who_sends_nothing_more_is_not_waited_for_after_an_error() -> None:
    entries: dict[str, Entry] = {"127.0.0.2": Pending("port-2", "no record")}
    limits = {"pending_timeout": 0.2, "linger_timeout": 60.0}
    async with relay(answers(OK), entries=entries, **limits) as (proxy, _nova):
        guest = await proxy.guest()
        await guest.send(GET)
        guest.shut_down()
        assert (await guest.rest()).startswith(b"HTTP/1.1 503 ")
        await until(lambda: proxy.server.connection_count == 0)


@on_loop
async def test_a_request_refused_by_its_body_is_logged_with_its_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with relay(answers(OK)) as (proxy, _nova):
        request = b"PUT /refused HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
        assert (await proxy.exchange(request)).startswith(b"HTTP/1.1 400 ")
    assert ' method="PUT" path="/refused" status=400 ' in capfd.readouterr().err


@on_loop
async def test_an_answer_read_by_dribs_and_drabs_is_cut_off_in_the_end() -> None:
    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        while True:
            await connection.send(b"y" * 65536)

    async with relay(script, answer_timeout=0.5, send_timeout=60.0) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        while proxy.server.connection_count:
            await guest.reader.read(1024)
            await asyncio.sleep(0.01)


@on_loop
async def test_what_is_discarded_after_an_error_is_bounded() -> None:
    async with relay(answers(OK), max_body=100_000, linger_timeout=60.0) as (proxy, _nova):
        guest = await proxy.guest()
        await guest.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n")
        assert (await guest.answer()).startswith(b"HTTP/1.1 413 ")
        with contextlib.suppress(ConnectionError):
            while proxy.server.connection_count:
                await guest.send(b"x" * 10_000)


@pytest.mark.parametrize("refused", [False, True])
@on_loop
async def test_connections_that_bring_no_request_are_read_now_and_then(
    monkeypatch: pytest.MonkeyPatch, *, refused: bool
) -> None:
    monkeypatch.setattr(limits_module, "FREE_READS", 2)
    monkeypatch.setattr(limits_module, "READ_PAUSE", 3600.0)
    monkeypatch.setattr(limits_module, "_MAX_REST", 3600.0)
    async with relay(answers(OK), linger_timeout=60.0) as (proxy, _nova):
        guests = [await proxy.guest(2) for _ in range(3)]
        (port,) = proxy.server._registry._ports.values()
        for guest in guests:
            rests_until = port.read_at
            await guest.send(b"?\r\n" if refused else GET[:1])
            await until(lambda before=rests_until: port.read_at > before)  # type: ignore[misc]
        *_, last = guests
        if refused:
            assert (await last.answer()).startswith(b"HTTP/1.1 400 ")
        # The port's third read has used up what is free, so its connection rests.
        await last.send(GET[1:])
        await settle(proxy)
        (resting,) = (each for each in port.connections if is_resting(each))
        assert isinstance(resting, GuestConnection)
        assert (len(resting._parser._received), resting._discarded) == (0 if refused else 1, 0)
        resting._transport._delay_over()
        if refused:
            await until(lambda: resting._discarded == len(GET) - 1)
        else:
            assert await last.answer() == OK


def is_resting(connection: object) -> bool:
    """Whether a connection is not read for a while."""
    assert isinstance(connection, GuestConnection)
    return connection._transport._delayed


@on_loop
async def test_who_hangs_up_again_and_again_without_a_request_gets_no_new_connections() -> None:
    async with relay(answers(OK), max_connections_per_port=2) as (proxy, _nova):
        quarantine = proxy.server._context.quarantine
        asking = await proxy.guest(3)
        assert await asking.get() == OK
        asking.reset()
        await until(lambda: proxy.server.connection_count == 0)
        assert not quarantine._abuses  # it had asked
        while not quarantine._until:
            (await proxy.guest(2)).reset()
            await until(lambda: proxy.server.connection_count == 0)
        assert list(quarantine._until) == [2]


def post(body: bytes, *headers: bytes) -> tuple[bytes, bytes]:
    """Return a request in two parts: its head with a byte of its body, and the rest of the body."""
    lines = (b"POST / HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(body), *headers, b"", b"")
    return b"\r\n".join(lines) + body[:1], body[1:]


SMALL, LARGE = SMALL_BODY * b"s", (SMALL_BODY + 1) * b"l"


@pytest.mark.parametrize(
    "stalled",
    [
        post(SMALL)[0],
        post(LARGE)[0],
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["small", "large", "chunked"],
)
@on_loop
async def test_whole_requests_and_small_bodies_wait_for_no_body(stalled: bytes) -> None:
    async with relay(answers(OK), max_requests_per_port=2) as (proxy, nova):
        for _ in range(5):
            await (await proxy.guest(2)).send(stalled)
            await settle(proxy)
        guest = await proxy.guest(2)
        assert await guest.get() == OK
        head, rest = post(SMALL)
        await guest.send(head)
        await settle(proxy)
        await guest.send(rest)
        assert await guest.answer() == OK
        assert nova.requests[1].endswith(b"\r\n\r\n" + SMALL)


@on_loop
async def test_a_large_body_is_read_when_it_has_a_slot() -> None:
    async with relay(answers(OK), max_requests_per_port=1) as (proxy, nova):
        first, second = await proxy.guest(2), await proxy.guest(2)
        head, rest = post(LARGE)
        await first.send(head)
        await settle(proxy)
        await second.send(post(LARGE, b"Expect: 100-continue")[0][:-1])
        await settle(proxy)
        other = await proxy.guest(3)
        await other.send(head + rest)
        assert await other.answer() == OK
        assert proxy.server._registry._ports["port-2"].bodies.waiting
        await first.send(rest)
        assert await first.answer() == OK
        # Not before that was it asked for its body.
        assert await second.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await second.send(LARGE)
        assert await second.answer() == OK
        assert [request[-len(LARGE) :] for request in nova.requests] == 3 * [LARGE]


@on_loop
async def test_a_usual_response_that_is_not_read_has_no_slot() -> None:
    # Twice the largest user data; the buffers of kernel and worker take it.
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 131072\r\n\r\n" + 131072 * b"x"
    async with relay(answers(response, OK), max_requests_per_port=1) as (proxy, _nova):
        with socket.socket() as unread:
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            unread.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(unread, ("127.0.0.2", proxy.port))
            await loop.sock_sendall(unread, GET)
            await settle(proxy)
            assert await (await proxy.guest(2)).get() == OK


@on_loop
async def test_a_guest_that_leaves_within_a_large_body_frees_its_slot() -> None:
    async with relay(answers(OK), max_requests_per_port=1, body_timeout=0.3) as (proxy, _nova):
        leaving, slow, last = [await proxy.guest(2) for _ in range(3)]
        head, rest = post(LARGE)
        for guest in (leaving, slow):
            await guest.send(head)
            await settle(proxy)
        await last.send(head + rest)
        leaving.reset()
        assert (await slow.rest()).startswith(b"HTTP/1.1 408 ")
        assert await last.answer() == OK


@on_loop
async def test_a_large_body_keeps_its_slot_until_its_request_is_over() -> None:
    gate = Gate()
    async with relay(gate.script, max_requests_per_port=1) as (proxy, _nova):
        first, second = await proxy.guest(2), await proxy.guest(2)
        for guest in (first, second):
            await guest.send(b"".join(post(LARGE)))
        await until(lambda: gate.asked == 1)
        await settle(proxy)
        bodies = proxy.server._registry._ports["port-2"].bodies
        assert (bodies.taken, len(bodies.waiting)) == (1, 1)
        gate.open.set()
        assert [await guest.answer() for guest in (first, second)] == 2 * [OK]
        await until(lambda: bodies.taken == 0)


@on_loop
async def test_who_keeps_asking_nonsense_gets_no_new_connections() -> None:
    async with relay(answers(OK), max_connections_per_port=2) as (proxy, _nova):
        for _ in range(5):
            assert (await proxy.exchange(b"?\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await proxy.guest(2)
        assert await (await proxy.guest(3)).get() == OK


@on_loop
async def test_a_connection_from_before_its_port_was_known_counts_for_its_port() -> None:
    limits = {"rate_limit": 0.1, "rate_limit_burst": 2}
    async with relay(answers(OK), entries={"127.0.0.9": identity(9)}, **limits) as (proxy, _nova):
        early = await proxy.guest(2)
        await settle(proxy)
        proxy.table.set("127.0.0.2", identity(2))
        assert await early.get() == OK
        assert await (await proxy.guest(2)).get() == OK
        assert (await proxy.exchange(GET)).startswith(b"HTTP/1.1 429 ")
        await early.send(GET)
        assert (await early.rest()).startswith(b"HTTP/1.1 429 ")


@on_loop
async def test_a_lowered_limit_is_effective_although_requests_wait() -> None:
    gate = Gate()
    async with relay(gate.script, max_requests_per_port=3, turn_pause=0.001) as (proxy, _nova):
        guests = [await proxy.guest(2) for _ in range(8)]
        for guest in guests:
            await guest.send(GET)
        await until(lambda: gate.asked == 3)
        settings = replace(proxy.server.settings, max_requests_per_port=1)
        proxy.server.apply(settings)
        gate.open.set()
        assert [await guest.answer() for guest in guests] == [OK] * 8
        (port,) = proxy.server._registry._ports.values()
        await until(lambda: port.requests.taken == 0)
