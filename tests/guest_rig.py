"""A guest's connection without a socket: every event that can happen to it, and when it can.

The transport, the pool and the clock are the test's; all else is the worker's own. So a search can
try every event in every state.
"""

import asyncio
import dataclasses
import math
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast

from proxy_support import guarded_identity, identity

from ovs_metadata.proxy.accounting.observer import Observer
from ovs_metadata.proxy.control.confirmation import Confirmations
from ovs_metadata.proxy.control.identity import Entry, IdentityTable, Pending
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.guest.connection import GuestConnection, GuestContext
from ovs_metadata.proxy.guest.limits import ConnectionRegistry
from ovs_metadata.proxy.guest.quarantine import Quarantine
from ovs_metadata.proxy.guest.slots import Slots
from ovs_metadata.proxy.guest.state import State
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.request import OutgoingRequest
from ovs_metadata.proxy.http.response import ResponseHead, ResponsePart
from ovs_metadata.proxy.nova.connection import ResponseReceiver, UpstreamConnection, UpstreamRequest
from ovs_metadata.proxy.nova.pool import UpstreamPool

ADDRESS = "127.0.0.2"
OURS = identity(2)
ENTRIES: dict[str, Entry | None] = {
    "known": OURS,
    "guarded": guarded_identity(2, tokens="required"),
    "pending": Pending("port-2", "no record"),
    "another instance": dataclasses.replace(OURS, instance_id="another"),
    "another port": identity(3),
    "gone": None,
}

SENT = {
    "a GET": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "two GETs": 2 * b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a GET by HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "a PUT for a token": b"PUT /latest/api/token HTTP/1.1\r\nHost: h\r\n"
    b"X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n",
    "a POST": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
    "a POST's head, with chunks to come": b"POST / HTTP/1.1\r\nHost: h\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "a head that expects 100": b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"
    b"Expect: 100-continue\r\n\r\n",
    "a request line": b"POST / HTTP/1.1\r\n",
    "a head's end": b"Host: h\r\n\r\n",
    "a head's end, with chunks to come": b"Host: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks": b"2\r\nhi\r\n0\r\n\r\n",
    "a body": b"hi",
    "CR": b"\r",
    "LF": b"\n",
    "nonsense": b"?\r\n\r\n",
}

_HEAD = ResponseHead(200, b"OK", b"", False, True, False, True)
PARTS = {
    "a whole response": ResponsePart(_HEAD, b"ok", complete=True),
    "a first part": ResponsePart(_HEAD, b"o", complete=False),
    "another part": ResponsePart(None, b"o", complete=False),
    "the last part": ResponsePart(None, b"k", complete=True),
}

SETTINGS = Settings(access_log="off", max_requests_per_port=1, max_connections_per_port=1)
RATE_LIMITED = dataclasses.replace(SETTINGS, rate_limit=0.001, rate_limit_burst=1)


EVENTS = (
    *SENT,
    *PARTS,
    *(f"entry: {name}" for name in ENTRIES),
    "end of input",
    "lost",
    "the guest reads nothing",
    "the guest reads",
    "deadline",
    "drain",
    "rate limit",
    "no kept connection",
    "the rival takes the slots",
    "the rival is done",
    "confirmed",
    "connected",
    "connecting again",
    "no endpoint",
    "broken",
)
"""All that can happen to a connection once it is accepted."""


class Transport(asyncio.Transport):
    """A guest's transport. While `blocked`, what is written fills the output at once."""

    def __init__(self, rig: "Rig", peer: str) -> None:
        super().__init__({"sockname": (peer, 1) if peer else None, "peername": ("10.0.0.5", 1)})
        self._rig = rig
        self.closing = False
        self.reading = True
        self.blocked = False
        self.full = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: Any) -> None:
        assert not self.closing
        if self.blocked and not self.full and data:
            self.full = True
            self._rig.connection.pause_writing()

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class Upstream:
    """A connection to Nova."""

    def __init__(self) -> None:
        self.paused = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def abort(self) -> None:
        pass


def broken(*args: object) -> None:
    """Take the call of a connection that fails a request; the rig says `broken` by itself."""
    raise AssertionError(args)


class Pool:
    """Sends over a kept connection as long as it has one."""

    def __init__(self) -> None:
        self.kept = True
        self.request: UpstreamRequest | None = None
        self.begun = False

    def submit(self, outgoing: OutgoingRequest, receiver: ResponseReceiver) -> UpstreamRequest:
        self.request = UpstreamRequest(outgoing, receiver, broken)
        self.begun = False
        if self.kept:
            self.connect()
        return self.request

    def timed_out(self, request: UpstreamRequest) -> None:
        assert request is self.request

    def connect(self) -> None:
        assert self.request is not None
        self.request.connection = cast("UpstreamConnection", Upstream())


class Rival:
    """Another connection of the port, which takes its slots."""

    address = ADDRESS
    unheard_since = math.inf

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        pass

    def slot_granted(self) -> None:
        pass


class NoTimer:
    def cancel(self) -> None:
        pass


class Recorded(GuestConnection):
    """Notes its transitions."""

    __slots__ = ("seen",)

    def __init__(self, context: GuestContext) -> None:
        super().__init__(context)
        self.seen: list[tuple[State, State]] = []

    def _enter(self, state: State, seconds: float = math.inf) -> None:
        self.seen.append((self._state, state))
        super()._enter(state, seconds)


class Rig:
    """One connection. `begin` it, then `apply` events that are `possible`."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.later: list[Callable[[], None]] = []
        self.pool = Pool()
        self.asked = 0
        self.confirmed = 0
        self.table = IdentityTable({ADDRESS: OURS})
        self.registry: ConnectionRegistry[Any] = ConnectionRegistry(self.later.append)
        self.confirmations = Confirmations(self._ask, self._at_once)
        self.context = GuestContext(
            settings=SETTINGS,
            table=self.table,
            pool=cast("UpstreamPool", self.pool),
            registry=self.registry,
            quarantine=Quarantine(),
            observer=Observer(SETTINGS),
            confirmations=self.confirmations,
            now=lambda: self.time,
        )
        self.table.subscribe(self.registry.identity_changed)
        self.connection = Recorded(self.context)
        self.transport = Transport(self, ADDRESS)
        self.rivals: list[Slots[GuestConnection]] = []
        """The slots that the rival has one of."""
        self.input_ended = False

    def _ask(self) -> None:
        self.asked += 1

    def _at_once(self, _seconds: float, function: Callable[[], None]) -> NoTimer:
        self.later.append(function)
        return NoTimer()

    @property
    def state(self) -> State:
        return self.connection._state

    @property
    def upstream(self) -> Upstream | None:
        """The connection to Nova that the request is sent on."""
        request = self.pool.request
        return None if request is None else cast("Upstream | None", request.connection)

    def events(self) -> list[str]:  # noqa: PLR0912 - one arm for each event
        """The events that can happen now, by name."""
        connection, transport, request = self.connection, self.transport, self.pool.request
        if self.state is State.ACCEPTED:
            return [
                "accepted",
                "accepted, unknown",
                "accepted, gone",
                "one too many",
                "far too many",
            ]
        if self.state is State.CLOSED:
            return []
        events = ["lost"]
        if not transport.closing and not self.input_ended and transport.reading:
            events += [*SENT, "end of input"]
        if transport.full:
            events.append("the guest reads")
        elif not transport.blocked:
            events.append("the guest reads nothing")
        events += [f"entry: {name}" for name in ENTRIES]
        if connection.deadline < math.inf:
            events.append("deadline")
        if not self.context.settings.rate_limit:
            events.append("rate limit")
        if not self.context.draining:
            events.append("drain")
        if self.pool.kept:
            events.append("no kept connection")
        if self.rivals:
            events.append("the rival is done")
        elif connection._port.requests in self._free_slots():
            events.append("the rival takes the slots")
        if self.asked > self.confirmed or self.later:
            events.append("confirmed")
        if request is not None and request.receiver is not None and connection._exchange:
            if self.upstream is None:
                events += ["connected", "no endpoint"]
            elif not self.upstream.paused:
                events += ["another part", "the last part"] if self.pool.begun else []
                events += [] if self.pool.begun else ["a whole response", "a first part"]
                events += ["broken"] if self.pool.begun else ["broken", "connecting again"]
        return events

    def apply(self, event: str) -> None:  # noqa: PLR0912, PLR0915 - one arm for each event
        """Have an event happen; note the transitions that it brings about."""
        connection, transport, pool = self.connection, self.transport, self.pool
        self.time += 0.01
        if event in SENT:
            connection.data_received(SENT[event])
        elif event == "end of input":
            self.input_ended = True
            if not connection.eof_received():
                transport.close()
        elif event == "lost":
            transport.closing = True
            connection.connection_lost(None)
        elif event == "accepted":
            connection.connection_made(transport)
        elif event == "accepted, unknown":
            self.table.remove(ADDRESS)
            connection.connection_made(transport)
        elif event == "accepted, gone":
            self.transport = Transport(self, "")
            connection.connection_made(self.transport)
        elif event in {"one too many", "far too many"}:
            for _ in range(1 if event == "one too many" else 2):
                self.registry.add(Rival(), OURS)
            connection.connection_made(transport)
        elif event == "the guest reads nothing":
            transport.blocked = True
        elif event == "the guest reads":
            transport.blocked = transport.full = False
            connection.resume_writing()
        elif event.startswith("entry: "):
            entry = ENTRIES[event.removeprefix("entry: ")]
            if entry is None:
                self.table.remove(ADDRESS)
            else:
                self.table.set(ADDRESS, entry)
        elif event == "deadline":
            self.time = max(self.time, connection.deadline)
            connection.deadline_passed()
        elif event == "drain":
            self.context.draining = True
            connection.drain()
        elif event == "rate limit":
            self.context.settings = RATE_LIMITED
            limit = RATE_LIMITED.rate_limit, RATE_LIMITED.rate_limit_burst
            connection._port.rate_delay(monotonic(), *limit)  # now it is used up
        elif event == "no kept connection":
            pool.kept = False
        elif event == "the rival takes the slots":
            self.rivals = self._free_slots()
            for slots in self.rivals:
                assert slots.acquire(cast("GuestConnection", Rival()), 1)
        elif event == "the rival is done":
            for slots in self.rivals:
                slots.release(1)
            self.rivals = []
            self._run_later()
        elif event == "confirmed":
            self._run_later()
            if self.asked > self.confirmed:
                self.confirmed = self.asked
                self.confirmations.come()
        else:
            self._answer(event)
        self._run_later()

    def _free_slots(self) -> list[Slots[GuestConnection]]:
        port = self.connection._port
        return [each for each in (port.requests, port.bodies) if not (each.taken or each.waiting)]

    def _run_later(self) -> None:
        due, self.later[:] = list(self.later), []
        for function in due:
            function()

    def _answer(self, event: str) -> None:
        """Have something come from the pool."""
        pool, request = self.pool, self.pool.request
        assert request is not None
        assert request.receiver is not None
        if event == "connected":
            pool.connect()
            request.receiver.request_sent()
        elif event == "connecting again":
            request.connection = None
        elif event in {"no endpoint", "broken"}:
            request.connection = pool.request = None
            request.receiver.request_failed(ProxyError.NO_ENDPOINT)
        else:
            pool.begun = True
            part = PARTS[event]
            receiver = request.receiver
            if part.complete:
                request.connection = pool.request = None
            receiver.response_received(part)


def run(events: Sequence[str], rig: Rig | None = None) -> Rig:
    """Have these events happen, those of them that are possible then."""
    rig = rig or Rig()
    for event in events:
        if event in rig.events():
            rig.apply(event)
    return rig
