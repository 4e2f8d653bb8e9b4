"""No answer without a confirmation that began after its request arrived."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_support import OK, NovaConnection, answers, identity, on_loop, relay, until

from ovs_metadata.proxy.control import confirmation
from ovs_metadata.proxy.control.confirmation import Confirmations
from ovs_metadata.proxy.http.errors import ProxyError, render_error

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"


class Agent:
    """The agent's part: counts requests for a confirmation, confirms when the test does."""

    def __init__(self) -> None:
        self.asked = 0
        self.confirmations = Confirmations(self._ask)

    def _ask(self) -> None:
        self.asked += 1

    def confirm(self) -> None:
        self.confirmations.come()


class Timers:
    """The event loop's timer: it fires when the test makes it."""

    def __init__(self) -> None:
        self.pending: list[Timer] = []

    def later(self, seconds: float, function: Callable[[], None]) -> "Timer":
        timer = Timer(self, seconds, function)
        self.pending.append(timer)
        return timer

    def go_off(self) -> None:
        self.pending.pop(0).function()


@dataclass(eq=False)
class Timer:
    timers: Timers
    seconds: float
    function: Callable[[], None]

    def cancel(self) -> None:
        if self in self.timers.pending:
            self.timers.pending.remove(self)


class Waiting:
    """A connection whose answer waits."""

    def __init__(self) -> None:
        self.times = 0

    def confirmed(self) -> None:
        self.times += 1


class Rig:
    """Confirmations between an agent and timers of the test's."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.asked = 0
        self.confirmations = Confirmations(self._ask, self.timers.later)

    def _ask(self) -> None:
        self.asked += 1

    def request(self) -> int:
        return self.confirmations.ticket()

    def is_confirmed(self, *tickets: int) -> bool:
        return all(map(self.confirmations.is_confirmed, tickets))


def test_without_a_source_every_request_is_confirmed_as_it_arrives() -> None:
    confirmations = Confirmations()
    assert confirmations.is_confirmed(confirmations.ticket())


def test_one_confirmation_serves_all_requests_that_arrived_before_it_began() -> None:
    rig = Rig()
    early = [rig.request() for _ in range(3)]
    assert (rig.asked, len(rig.timers.pending)) == (0, 1)
    rig.timers.go_off()
    late = [rig.request() for _ in range(3)]
    assert not rig.is_confirmed(early[0])
    rig.confirmations.come()
    assert rig.is_confirmed(*early)
    assert not any(map(rig.is_confirmed, late))
    assert rig.asked == 1
    rig.timers.go_off()
    rig.confirmations.come()
    assert rig.is_confirmed(*late)
    assert (rig.asked, rig.timers.pending) == (2, [])


def test_the_next_one_is_begun_when_it_is_due_or_as_soon_as_the_one_under_way_has_come() -> None:
    rig = Rig()
    rig.request()
    rig.timers.go_off()
    rig.request()
    rig.timers.go_off()
    assert rig.asked == 1
    rig.confirmations.come()
    assert rig.asked == 2


def test_an_answer_that_waits_has_its_confirmation_begun_at_once() -> None:
    rig = Rig()
    rig.confirmations.answered(10.0)
    ticket = rig.request()
    rig.timers.go_off()
    rig.confirmations.come()
    assert rig.is_confirmed(ticket)
    ticket = rig.request()
    assert rig.timers.pending[0].seconds > 5
    for _ in range(3):
        rig.confirmations.wait(ticket, Waiting().confirmed)
    assert [timer.seconds for timer in rig.timers.pending] == [0]
    rig.timers.go_off()
    assert (rig.asked, rig.timers.pending) == (2, [])
    # While another is under way, at once is when that one has come.
    ticket = rig.request()
    rig.confirmations.wait(ticket, Waiting().confirmed)
    assert rig.asked == 2
    rig.confirmations.come()
    assert (rig.asked, rig.timers.pending) == (3, [])
    rig.confirmations.come()
    assert rig.is_confirmed(ticket)


STEPS = ["request", "first answers", "last answers", "timer", "come", "leave"]


@given(steps=st.lists(st.sampled_from(STEPS)))
def test_in_any_order_no_answer_is_confirmed_too_early_or_never(steps: list[str]) -> None:
    """Two promises, in any order of events.

    A confirmation that was asked for after a request has come before it is confirmed, and each
    answer that waits gets its own. There is never more than one under way.
    """
    rig = Rig()
    begun_before: dict[int, int] = {}  # by request: how many had been asked for when it arrived
    tickets: dict[int, int] = {}
    waiting: dict[int, Waiting] = {}
    come = 0

    def check() -> None:
        assert 0 <= rig.asked - come <= 1
        assert len(rig.timers.pending) <= 1
        for number, ticket in tickets.items():
            assert rig.is_confirmed(ticket) <= (come > begun_before[number])
            if number in waiting:
                assert waiting[number].times == rig.is_confirmed(ticket)

    def confirm() -> None:
        nonlocal come
        come += 1
        rig.confirmations.come()

    for step in steps:
        if step == "request":
            number = len(tickets)
            begun_before[number] = rig.asked
            tickets[number] = rig.request()
        elif step.endswith("answers"):
            asking = [each for each in tickets if not rig.is_confirmed(tickets[each])]
            answered = asking[:1] if step == "first answers" else asking[-1:]
            for number in set(answered) - set(waiting):
                waiting[number] = Waiting()
                rig.confirmations.wait(tickets[number], waiting[number].confirmed)
        elif step == "timer" and rig.timers.pending:
            rig.timers.go_off()
        elif step == "come" and rig.asked > come:
            confirm()
        elif step == "leave" and waiting:
            rig.confirmations.forget(waiting.popitem()[1].confirmed)
        check()
    # Without another request, and with timers and confirmations, all of it comes to its end.
    for _ in range(2):
        if rig.timers.pending:
            rig.timers.go_off()
        if rig.asked > come:
            confirm()
        check()
    assert rig.is_confirmed(*tickets.values())
    assert (rig.asked - come, rig.timers.pending) == (0, [])


@pytest.mark.parametrize(
    ("answers", "confirmations", "seconds"),
    [
        ([], [], 0),
        ([0.03], [], 0),
        ([], [0.001], 0),
        ([0.03, 0.02, 0.04], [0.001, 0.004, 0.001], 0.015),
        ([0.03, 0.001], [0.001], 0),
        ([0.03], [0.0005] * 15 + [0.0325], 0.024),
    ],
)
def test_how_long_a_confirmation_may_be_put_off(
    answers: list[float], confirmations: list[float], seconds: float
) -> None:
    assert confirmation.best_delay(answers, confirmations) == pytest.approx(seconds)


SECONDS = st.floats(0, 100)


@given(
    answers=st.lists(SECONDS, min_size=1),
    confirmations=st.lists(SECONDS, min_size=1),
    begun_late=st.floats(0, confirmation.TIMER_ERROR),
    takes=st.floats(0, 2),
)
def test_a_confirmation_that_is_put_off_is_back_before_the_answer(
    answers: list[float], confirmations: list[float], begun_late: float, takes: float
) -> None:
    put_off = confirmation.best_delay(answers, confirmations)
    assert put_off >= 0
    if put_off:
        back = put_off + begun_late + takes * sum(confirmations) / len(confirmations)
        assert back <= min(answers) + 1e-9


def test_what_was_long_ago_does_not_count() -> None:
    rig = Rig()
    rig.confirmations.answered(0.0)
    for _ in range(confirmation.REMEMBERED_RESPONSES):
        rig.confirmations.answered(10.0)
    for _ in range(2):
        rig.request()
        put_off = rig.timers.pending[0].seconds
        rig.timers.go_off()
        rig.confirmations.come()
    assert put_off > 5


def test_waiters_are_called_once_by_their_own_confirmation_unless_forgotten() -> None:
    rig = Rig()
    early, late, gone = Waiting(), Waiting(), Waiting()
    rig.confirmations.wait(rig.request(), early.confirmed)
    rig.timers.go_off()
    rig.confirmations.wait(rig.request(), late.confirmed)
    rig.confirmations.wait(rig.request(), gone.confirmed)
    rig.confirmations.forget(gone.confirmed)
    rig.confirmations.come()
    assert (early.times, late.times) == (1, 0)
    rig.confirmations.come()
    assert (early.times, late.times, gone.times) == (1, 1, 0)


def test_a_confirmation_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(ValueError, match="unsolicited"):
        Rig().confirmations.come()


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
async def test_a_waiting_answer_goes_to_no_other_guest() -> None:
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
            refusal = render_error(
                ProxyError.NOT_CONFIRMED, retry_after=proxy.server.settings.retry_after
            )
            assert await proxy.exchange(request_text) == refusal
            # Nova's health is unchanged, and a late confirmation has no effect.
            assert all(each.healthy is not False for each in proxy.server.pool.health())
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


@on_loop
async def test_a_confirmation_is_put_off_while_nova_takes_its_time() -> None:
    may_answer = asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        while await connection.request():
            await may_answer.wait()
            await connection.send(OK)

    rig = Rig()
    pending = rig.timers.pending
    async with relay(script, confirmations=rig.confirmations) as (proxy, _):
        guest = await proxy.guest()
        await guest.send(GET)
        await until(lambda: len(pending) == 1)
        assert pending[0].seconds == 0  # nothing is known of Nova yet
        rig.timers.go_off()
        rig.confirmations.come()
        asyncio.get_running_loop().call_later(0.1, may_answer.set)
        assert await guest.answer() == OK
        may_answer.clear()
        await guest.send(GET)
        await until(lambda: len(pending) == 1)
        assert 0.05 < pending[0].seconds < 5
        may_answer.set()
        # Nova is quicker than it was, so the answer waits, and with it nothing is put off.
        await until(lambda: pending[0].seconds == 0)
        rig.timers.go_off()
        assert rig.asked == 2
        rig.confirmations.come()
        assert await guest.answer() == OK


@on_loop
async def test_a_request_that_does_not_go_to_nova_needs_no_confirmation() -> None:
    rig = Rig()
    async with relay(answers(OK), confirmations=rig.confirmations) as (proxy, nova):
        proxy.table.remove("127.0.0.2")
        assert b" 404 " in await proxy.exchange(GET)
        assert (rig.timers.pending, nova.connections) == ([], 0)
