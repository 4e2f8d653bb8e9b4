"""Metadata options over real sockets: what reaches Nova, and what ends a connection."""

from typing import Any

import pytest
from proxy_support import (
    OK,
    NovaConnection,
    answers,
    guarded_identity,
    on_loop,
    relay,
    until,
)

from ovs_metadata.proxy.control.confirmation import Confirmations
from ovs_metadata.proxy.control.identity import Entry
from ovs_metadata.proxy.http.errors import ProxyError, render_error

PUT = (
    b"PUT /latest/api/token HTTP/1.1\r\nHost: h\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"
)
PLAIN = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def entries(**options: Any) -> dict[str, Entry]:
    return {f"127.0.0.{number}": guarded_identity(number, **options) for number in range(2, 10)}


def body(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


def with_token(token: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: h\r\nX-aws-ec2-metadata-token: " + token + b"\r\n\r\n"


@on_loop
async def test_a_token_opens_what_is_closed_without_it_and_stays_here() -> None:
    async with relay(answers(OK), entries=entries(tokens="required")) as (proxy, nova):
        refused = await proxy.exchange(PLAIN)
        assert refused == render_error(ProxyError.TOKEN_MISSING, retry_after=1)
        assert nova.requests == []
        token = body(await proxy.exchange(PUT))
        guest = await proxy.guest()
        await guest.send(with_token(token))
        assert body(await guest.answer()) == b"ok"
        assert b"token" not in nova.requests[0].lower()
        counts = proxy.server.observer.statistics.take().requests
    assert counts == {(401, "token_missing"): 1, (200, "token_issued"): 1, (200, "answered"): 1}


@on_loop
async def test_another_instances_token_is_refused() -> None:
    table = entries()
    table["127.0.0.3"] = guarded_identity(3, token_key="3c" * 32)
    async with relay(answers(OK), entries=table) as (proxy, nova):
        token = body(await proxy.exchange(PUT, 2))
        refused = await proxy.exchange(with_token(token), 3)
        assert refused == render_error(ProxyError.TOKEN_INVALID, retry_after=1)
    assert nova.requests == []


@on_loop
async def test_with_the_defaults_a_request_without_a_token_passes_as_it_is() -> None:
    request = b"GET / HTTP/1.1\r\nVia: 1.1 x\r\nX-Forwarded-For: y\r\nHost: any\r\n\r\n"
    async with relay(answers(OK), entries=entries()) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(request)
        assert body(await guest.answer()) == b"ok"
    assert b"\r\nVia: 1.1 x\r\n" in nova.requests[0]


@on_loop
async def test_a_token_waits_for_the_confirmation_of_the_identity() -> None:
    asked: list[None] = []
    confirmations = Confirmations(lambda: asked.append(None))
    async with relay(answers(OK), entries=entries(), confirmations=confirmations) as (proxy, _):
        guest = await proxy.guest()
        await guest.send(PUT)
        await until(lambda: len(asked) == 1)
        proxy.table.set("127.0.0.2", guarded_identity(2, tokens="off"))
        confirmations.come()
        # By the identity that is confirmed the request is Nova's.
        assert body(await guest.answer()) == b"ok"


@pytest.mark.parametrize("changed", ["idle", "under way"])
@on_loop
async def test_stricter_options_end_the_connections_of_a_port(changed: str) -> None:
    async def script(connection: NovaConnection) -> None:
        while await connection.request():
            await connection.send(OK if changed == "idle" else OK[:-1])

    async with relay(script, entries=entries()) as (proxy, nova):
        guest, other = await proxy.guest(2), await proxy.guest(3)
        for each in (guest, other):
            await each.send(PLAIN)
        await until(lambda: len(nova.requests) == 2)
        if changed == "idle":
            await guest.answer()
        else:
            await guest.reader.readuntil(b"\r\n\r\n")
        proxy.table.set("127.0.0.2", guarded_identity(2, hop_limit=1))
        await guest.until_reset()
        assert not other.reader.at_eof()


@on_loop
async def test_looser_options_end_no_connection() -> None:
    async with relay(answers(OK), entries=entries(hop_limit=1, tokens="optional")) as (proxy, _):
        guest = await proxy.guest()
        for looser in (guarded_identity(2, hop_limit=2), guarded_identity(2, tokens="off")):
            assert body(await guest.get()) == b"ok"
            proxy.table.set("127.0.0.2", looser)
        assert body(await guest.get()) == b"ok"


@on_loop
async def test_an_option_counts_from_the_next_request_on() -> None:
    async with relay(answers(OK), entries=entries()) as (proxy, nova):
        proxy.table.set("127.0.0.2", guarded_identity(2, endpoint="disabled"))
        refused = await proxy.exchange(PLAIN)
        assert refused == render_error(ProxyError.ENDPOINT_DISABLED, retry_after=1)
        head_only = await proxy.exchange(b"HEAD" + PLAIN[3:])
        assert head_only == render_error(
            ProxyError.ENDPOINT_DISABLED, retry_after=1, head_only=True
        )
    assert nova.requests == []
