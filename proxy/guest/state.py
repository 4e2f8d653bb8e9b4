"""The states of a guest's connection, and the one table of what may follow each.

`GuestConnection._enter` is the only writer of a connection's state and deadline, and it refuses a
transition that is not in `TRANSITIONS`. docs/images/connection-states.svg is drawn from the table.

Two facts hold beside the state. The input may have ended: then no further request comes, and the
requests that are here still get responses. The output may be full, because the guest does not read:
then no request begins, and no response is read.
"""

import enum
from collections.abc import Mapping


class State(enum.Enum):
    """What a connection does. Each state says what ends it."""

    # A dictionary or a set of states costs no call for each look at it.
    __hash__ = object.__hash__

    ACCEPTED = enum.auto()
    """The connection is new. Its port's number of connections decides at once."""
    IDLE = enum.auto()
    """No byte of a request is here. A byte ends it, or the idle timeout."""
    READING_HEAD = enum.auto()
    """A head is arriving. Its end ends it, or the head timeout."""
    THROTTLED_BODY = enum.auto()
    """A head is here and its large body is not read: the port's slots for bodies are taken. A slot
    ends it, or the response timeout."""
    READING_BODY = enum.auto()
    """A body is arriving. Its end ends it, or the body timeout."""
    AWAITING_IDENTITY_FOR_BODY = enum.auto()
    """The guest waits for 100 Continue, and its port's identity is pending. The identity ends it,
    or the body if the guest sends it without 100 Continue, or the pending timeout."""
    RECEIVED = enum.auto()
    """A whole request is here. What it has to wait for decides at once."""
    BACKED_UP = enum.auto()
    """The request does not begin: the guest has not read what it was sent before. Room in the
    output ends it, or the send timeout."""
    AWAITING_IDENTITY = enum.auto()
    """The port's identity is pending. The identity ends it, or the pending timeout."""
    THROTTLED = enum.auto()
    """The port's slots for requests are taken. A slot ends it, or the response timeout."""
    CONFIRMING_REQUEST = enum.auto()
    """The request asks for a change, so Nova is not asked before the identity is confirmed. The
    confirmation ends it, or its timeout."""
    CONNECTING = enum.auto()
    """The request waits for a connection to Nova. The pool ends it, and knows the timeout."""
    WAITING = enum.auto()
    """Nova has the request. A byte of the response ends it, or the response timeout. The pool may
    send the request again meanwhile."""
    CONFIRMING_RESPONSE = enum.auto()
    """The response is here, or its first part, and the identity is not confirmed. The confirmation
    ends it, or its timeout."""
    STREAMING = enum.auto()
    """The guest has the first part of the response. The last part ends it, or the response timeout;
    while the output is full, the send timeout."""
    FLUSHING = enum.auto()
    """The response is complete, and the guest has yet to read it. Room in the output ends it, or
    the send timeout."""
    LINGERING = enum.auto()
    """The guest has an error to read, and what it sends is discarded. The guest's end ends it, or
    the linger timeout."""
    CLOSING = enum.auto()
    """The last bytes are being sent. Their end ends it, or the send timeout."""
    CLOSED = enum.auto()
    """The connection is over."""


READING = frozenset(
    {State.IDLE, State.READING_HEAD, State.READING_BODY, State.AWAITING_IDENTITY_FOR_BODY}
)
"""The connection awaits or receives a request, and reads input. In every other state it keeps at
most one read's worth of further input, and pauses reading then."""

UNHEARD = READING | {State.THROTTLED_BODY}
"""The guest has yet to send a whole request."""

ANSWERING = frozenset(
    {
        State.BACKED_UP,
        State.CONNECTING,
        State.WAITING,
        State.CONFIRMING_RESPONSE,
        State.STREAMING,
        State.FLUSHING,
        State.CLOSING,
    }
)
"""A response for one instance is on its way: another instance must not get it."""

_ENDS = frozenset({State.LINGERING, State.CLOSING})
"""The guest gets an error; or the connection ends."""

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.ACCEPTED: _ENDS | {State.IDLE},
    State.IDLE: _ENDS
    | {
        State.IDLE,  # a shorter time, when the worker stops
        State.READING_HEAD,
        State.READING_BODY,
        State.THROTTLED_BODY,
        State.RECEIVED,
    },
    State.READING_HEAD: _ENDS
    | {
        State.IDLE,  # it was an empty line
        State.READING_BODY,
        State.THROTTLED_BODY,
        State.RECEIVED,
    },
    State.THROTTLED_BODY: _ENDS | {State.READING_BODY},
    State.READING_BODY: _ENDS | {State.AWAITING_IDENTITY_FOR_BODY, State.RECEIVED},
    State.AWAITING_IDENTITY_FOR_BODY: _ENDS | {State.READING_BODY, State.RECEIVED},
    State.RECEIVED: _ENDS
    | {
        State.BACKED_UP,
        State.AWAITING_IDENTITY,
        State.THROTTLED,
        State.CONFIRMING_REQUEST,
        State.CONNECTING,
        State.WAITING,
    },
    State.BACKED_UP: frozenset({State.RECEIVED, State.CLOSING}),
    State.AWAITING_IDENTITY: _ENDS | {State.RECEIVED},
    State.THROTTLED: _ENDS | {State.RECEIVED},
    State.CONFIRMING_REQUEST: _ENDS | {State.RECEIVED},
    State.CONNECTING: _ENDS | {State.WAITING},
    State.WAITING: _ENDS
    | {
        State.WAITING,  # sent again
        State.CONFIRMING_RESPONSE,
        State.STREAMING,
        State.FLUSHING,
        State.IDLE,
    },
    State.CONFIRMING_RESPONSE: _ENDS | {State.STREAMING, State.FLUSHING, State.IDLE},
    State.STREAMING: frozenset(
        {
            State.STREAMING,  # another part; the output is full, or has room again
            State.FLUSHING,
            State.IDLE,
            State.CLOSING,
        }
    ),
    State.FLUSHING: frozenset({State.IDLE, State.CLOSING}),
    State.LINGERING: frozenset({State.CLOSING}),
    State.CLOSING: frozenset({State.CLOSING, State.CLOSED}),  # first properly, then at once
    State.CLOSED: frozenset(),
}
"""The states that may follow each state."""


class TransitionError(RuntimeError):
    """A state does not follow the present one in the table."""

    def __init__(self, before: State, after: State) -> None:
        super().__init__(f"a guest's connection is {before.name} and cannot be {after.name} next")
