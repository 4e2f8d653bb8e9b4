"""No answer without a confirmation that began after its request arrived."""

import asyncio
from dataclasses import replace

import pytest
from proxy_support import OK, NovaConnection, answers, identity, on_loop, relay, until

from ovs_metadata.proxy.control import confirmation
from ovs_metadata.proxy.control.confirmation import Confirmations
from ovs_metadata.proxy.http.errors import Failure, render_failure

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"


class Agent:
    """Stands for the agent: counts what it is asked, confirms when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.confirmations = Confirmations(self._ask)

    def _ask(self) -> None:
        self.asked += 1

    def confirm(self) -> None:
        self.confirmations.come()


class Waiting:
    """Stands for a connection whose answer waits."""

    def __init__(self) -> None:
        self.times = 0

    def confirmed(self) -> None:
        self.times += 1


def test_without_a_source_every_request_is_confirmed_as_it_arrives() -> None:
    confirmations = Confirmations()
    assert confirmations.is_confirmed(confirmations.ticket())


def test_one_confirmation_serves_all_requests_that_arrived_before_it_began() -> None:
    agent = Agent()
    first = agent.confirmations.ticket()
    late = [agent.confirmations.ticket() for _ in range(3)]
    assert agent.asked == 1
    assert not agent.confirmations.is_confirmed(first)
    agent.confirm()
    assert agent.confirmations.is_confirmed(first)
    assert not any(map(agent.confirmations.is_confirmed, late))
    assert agent.asked == 2
    agent.confirm()
    assert all(map(agent.confirmations.is_confirmed, late))
    assert agent.asked == 2


def test_waiters_are_called_once_by_their_own_confirmation_unless_forgotten() -> None:
    agent = Agent()
    early, late, gone = Waiting(), Waiting(), Waiting()
    agent.confirmations.wait(agent.confirmations.ticket(), early)
    agent.confirmations.wait(agent.confirmations.ticket(), late)
    agent.confirmations.wait(agent.confirmations.ticket(), gone)
    agent.confirmations.forget(gone)
    agent.confirm()
    assert (early.times, late.times) == (1, 0)
    agent.confirm()
    assert (early.times, late.times, gone.times) == (1, 1, 0)


def test_a_confirmation_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not asked for"):
        Agent().confirm()


@on_loop
async def test_an_answer_is_held_until_the_identity_is_confirmed() -> None:
    agent = Agent()
    async with relay(answers(OK), confirmations=agent.confirmations) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        await until(lambda: proxy.server.pool.idle_count == 1)  # Nova's answer is there
        assert agent.asked == 1
        assert not guest.reader._buffer  # type: ignore[attr-defined]
        agent.confirm()
        assert await guest.answer() == OK
        # A request that arrives later needs a later confirmation.
        await guest.send(GET)
        await until(lambda: agent.asked == 2)
        agent.confirm()
        assert await guest.answer() == OK


@on_loop
async def test_an_answer_of_several_parts_is_held_whole_and_in_order() -> None:
    more = asyncio.Event()
    body = b"x" * 300_000

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300002\r\n\r\nab")
        await more.wait()
        await connection.send(body)
        await connection.request()

    agent = Agent()
    async with relay(script, confirmations=agent.confirmations) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        more.set()
        agent.confirm()
        assert (await guest.answer()).endswith(b"\r\n\r\nab" + body)


@on_loop
async def test_an_answer_that_waits_goes_to_nobody_else() -> None:
    agent = Agent()
    async with relay(answers(OK), confirmations=agent.confirmations) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        proxy.table.set("127.0.0.2", identity(5))  # the agent says this, and then confirms
        agent.confirm()
        assert await guest.until_reset() == b""


@on_loop
async def test_a_change_of_the_secret_does_not_cost_an_answer_that_waits() -> None:
    agent = Agent()
    async with relay(answers(OK), confirmations=agent.confirmations) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        proxy.table.set("127.0.0.2", replace(identity(2), signature="signature-new"))
        agent.confirm()
        assert await guest.answer() == OK


@on_loop
async def test_a_request_for_a_change_reaches_nova_only_once_confirmed() -> None:
    agent = Agent()
    async with relay(answers(OK), confirmations=agent.confirmations) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(POST)
        await until(lambda: agent.asked == 1)
        proxy.table.set("127.0.0.2", replace(identity(2), signature="signature-new"))
        assert nova.connections == 0
        agent.confirm()
        assert await guest.answer() == OK
        assert b"signature-new" in nova.requests[0]
        await guest.send(POST)
        await until(lambda: agent.asked == 2)
        proxy.table.set("127.0.0.2", identity(5))
        agent.confirm()
        assert await guest.until_reset() == b""
        assert len(nova.requests) == 1


@pytest.mark.parametrize("request_text", [GET, POST])
def test_without_a_confirmation_there_is_no_answer(
    request_text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "TIMEOUT", 0.2)

    @on_loop
    async def scenario() -> None:
        agent = Agent()
        async with relay(answers(OK), confirmations=agent.confirmations) as (proxy, _):
            refusal = render_failure(
                Failure.NOT_CONFIRMED, retry_after=proxy.server.settings.retry_after
            )
            assert await proxy.exchange(request_text) == refusal
            # Nova is as well as it was, and a confirmation that comes late disturbs nobody.
            assert all(each.healthy for each in proxy.server.pool.health())
            agent.confirm()

    scenario()


@on_loop
async def test_an_answer_that_breaks_off_while_it_waits_is_cut_short() -> None:
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(part)

    agent = Agent()
    async with relay(script, confirmations=agent.confirmations) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: len(nova.requests) == 1)
        agent.confirm()
        assert await guest.until_reset() == part


@on_loop
async def test_pipelined_requests_are_confirmed_one_by_one() -> None:
    agent = Agent()
    async with relay(answers(OK), confirmations=agent.confirmations) as (proxy, _):
        guest = await proxy.guest()
        await guest.send(GET + GET)
        await until(lambda: agent.asked == 1)
        agent.confirm()
        assert await guest.answer() == OK
        await until(lambda: agent.asked == 2)
        agent.confirm()
        assert await guest.answer() == OK
