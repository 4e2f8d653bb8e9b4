"""The table of a guest connection's states: all that is in it happens, and nothing else does."""

import functools
import math
from collections import deque
from typing import TypeAlias

import pytest
from guest_rig import ADDRESS, EVENTS, Rig, run
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_metadata.proxy.guest.state import READING, TRANSITIONS, State, TransitionError

Transition: TypeAlias = tuple[State, State]
Way: TypeAlias = tuple[str, ...]

TABLE: set[Transition] = {
    (before, after) for before, afters in TRANSITIONS.items() for after in afters
}

AT_NOVA = {State.CONNECTING, State.WAITING, State.CONFIRMING_RESPONSE, State.STREAMING}
WITH_EXCHANGE = {
    State.BACKED_UP,
    State.AWAITING_IDENTITY,
    State.THROTTLED,
    State.CONFIRMING_REQUEST,
    *AT_NOVA,
}
WITH_SLOT = {State.CONFIRMING_REQUEST, *AT_NOVA}
SLOT_IF_IT_WAITED_BEFORE = {State.AWAITING_IDENTITY}
WITH_A_BODY = {State.READING_BODY, State.AWAITING_IDENTITY_FOR_BODY, *WITH_EXCHANGE}
WITHOUT_DEADLINE = {State.ACCEPTED, State.CONNECTING, State.CLOSED}
DECIDES_AT_ONCE = {State.ACCEPTED, State.RECEIVED}


def check(rig: Rig) -> None:
    """Check what holds between two events, whatever has happened."""
    connection, state, port = rig.connection, rig.state, rig.connection._port
    assert state not in DECIDES_AT_ONCE or rig.transport.closing
    assert (connection.deadline == math.inf) is (state in WITHOUT_DEADLINE)
    assert (connection._exchange is not None) is (state in WITH_EXCHANGE)
    if state not in SLOT_IF_IT_WAITED_BEFORE:
        assert connection._has_slot is (state in WITH_SLOT)
    # A body that is not whole may be large without having a slot only if it is not read.
    head, large = connection._parser.head, connection._has_body_slot
    assert state in WITH_A_BODY or not large
    assert state is not State.READING_BODY or (head is not None and head.chunked is large)
    assert port.requests.taken == connection._has_slot + rig.rivals.count(port.requests)
    assert port.bodies.taken == large + rig.rivals.count(port.bodies)
    assert list(port.requests.waiting).count(connection) == (state is State.THROTTLED)
    assert list(port.bodies.waiting).count(connection) == (state is State.THROTTLED_BODY)
    if state in READING and not rig.transport.closing:
        assert rig.transport.reading
    # A response on its way is for the instance that has the address.
    if state in {*AT_NOVA, State.FLUSHING}:
        assert connection._identity is not None
        assert connection._identity.same_instance(rig.table.get(ADDRESS))
    # No request begins and no response is read while the output is full.
    if connection._output_full and state in AT_NOVA:
        assert state is State.STREAMING
        assert rig.upstream is None or rig.upstream.paused


def state_of(rig: Rig) -> tuple[object, ...]:
    """Return what may decide where an event leads."""
    connection, state, exchange = rig.connection, rig.state, rig.connection._exchange
    if state in {State.LINGERING, State.CLOSING}:
        return state, rig.transport.closing
    return (
        state,
        connection._output_full,
        connection._has_slot,
        connection._has_body_slot,
        connection._has_asked,
        connection._input_ended,
        connection._parser.progress,
        min(len(connection._parser._received), 2),
        exchange and rig.confirmations.is_confirmed(exchange.ticket),
        exchange and len(exchange.held),
        type(rig.table.get(ADDRESS)),
        getattr(rig.table.get(ADDRESS), "guarded", False),
        rig.context.draining,
        rig.context.settings.rate_limit,
        len(rig.rivals),
        rig.transport.blocked,
        rig.pool.kept,
        rig.upstream is None,
    )


def replayed(way: Way) -> Rig:
    """A rig after these events, each of them possible when it happens."""
    rig = Rig()
    for event in way:
        rig.apply(event)
    return rig


SEARCH = pytest.mark.timeout(600)
"""The search takes some seconds, on a busy machine minutes; the first test waits for all of it."""


@functools.cache
def ways() -> dict[Transition, Way]:
    """Tries every event in every state, the shortest ways first: a way to each transition."""
    found: dict[Transition, Way] = {}
    known = {state_of(Rig())}
    to_try: deque[Way] = deque([()])
    while to_try:
        way = to_try.popleft()
        for event in replayed(way).events():
            rig = replayed((*way, event))
            check(rig)
            for transition in rig.connection.seen:
                found.setdefault(transition, (*way, event))
            if state_of(rig) not in known:
                known.add(state_of(rig))
                to_try.append((*way, event))
    return found


@SEARCH
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("before", "after"),
    [(before, after) for before in State for after in State if (before, after) in TABLE],
)
def test_every_transition_of_the_table_happens(before: State, after: State) -> None:
    assert (before, after) in ways()


@SEARCH
@pytest.mark.exhaustive
def test_no_transition_but_those_of_the_table_happens() -> None:
    assert set(ways()) <= TABLE


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_no_series_of_events_leaves_the_table(events: list[str]) -> None:
    rig = run(("accepted",))
    for event in events:
        run((event,), rig)
        check(rig)
    assert set(rig.connection.seen) <= TABLE


@pytest.mark.parametrize("before", State)
def test_a_transition_that_is_not_in_the_table_is_refused(before: State) -> None:
    for after in set(State) - TRANSITIONS[before]:
        connection = Rig().connection
        connection._state = before
        with pytest.raises(TransitionError, match=f"is {before.name} and cannot be {after.name}"):
            connection._enter(after, 1.0)
        assert connection._state is before
        assert connection.deadline == math.inf


def test_the_table_has_every_state_and_every_state_can_end() -> None:
    assert set(TRANSITIONS) == set(State)
    ending = {State.CLOSED}
    while more := {each for each in State if TRANSITIONS[each] & ending} - ending:
        ending |= more
    assert ending == set(State)
