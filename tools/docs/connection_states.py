"""Draws the states of a guest's connection and the transitions between them, from their table."""

from collections.abc import Mapping

from docs.diagram import Arrow, Box, Diagram
from ovs_metadata.proxy.guest.state import TRANSITIONS, State

_PLACES: Mapping[State, tuple[int, int]] = {
    State.ACCEPTED: (0, 0),
    State.IDLE: (0, 1),
    State.READING_HEAD: (1, 2),
    State.THROTTLED_BODY: (0, 3),
    State.READING_BODY: (1, 4),
    State.AWAITING_IDENTITY_FOR_BODY: (2, 4),
    State.RECEIVED: (2, 1),
    State.BACKED_UP: (3, 1),
    State.AWAITING_IDENTITY: (3, 0),
    State.THROTTLED: (1, 0),
    State.CONFIRMING_REQUEST: (2, 0),
    State.CONNECTING: (4, 2),
    State.WAITING: (4, 3),
    State.CONFIRMING_RESPONSE: (3, 3),
    State.STREAMING: (3, 4),
    State.FLUSHING: (4, 4),
    State.LINGERING: (1, 5),
    State.CLOSING: (2, 5),
    State.CLOSED: (3, 5),
}
"""Column and row of each state."""

_ENDS = {State.LINGERING, State.CLOSING}
_HUBS = {State.IDLE, *_ENDS}
"""Many states lead to these, so their boxes say it, and there is no arrow."""


def connection_states() -> Diagram:
    """All states and transitions."""
    return Diagram(
        "The states of a guest's connection, and which state may follow which",
        [
            Box(state.name, *_PLACES[state], called(state), _line(state), _style(state))
            for state in State
        ],
        [
            Arrow(before.name, after.name)
            for before in State
            for after in State
            if after in TRANSITIONS[before] and after not in _in_words(before)
        ],
    )


def called(state: State) -> str:
    """Return a state's name as people write it."""
    return state.name.replace("_", " ").lower()


def _in_words(before: State) -> list[State]:
    """Return the states that may follow without an arrow."""
    return [
        after
        for after in State
        if after in TRANSITIONS[before]
        if after is before
        or (after in _HUBS and before not in _ENDS and (before, after) != _BEGINNING)
    ]


_BEGINNING = State.ACCEPTED, State.IDLE


def _line(state: State) -> list[str]:
    words = ["itself" if each is state else called(each) for each in _in_words(state)]
    return [f"or {', '.join(words)}"] if words else []


def _style(state: State) -> str:
    return "end" if state in {*_ENDS, State.CLOSED} else "box"
