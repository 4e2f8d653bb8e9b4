"""A guest's connection: it takes requests one at a time and in order, and gives responses.

It is a state machine: `proxy.guest.state` has the states and the table of transitions, and only
this file changes a connection's state. Other modules parse, and decide about requests and
responses, as functions on values.

All of it runs on the event loop's thread. A connection lives until the guest or the proxy closes
it, or its address leaves the identity table. It reads input only while it awaits or receives a
request. So it does not notice that a guest with pipelined requests has left before the next of them
begins.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, time
from typing import cast

from ovs_metadata.proxy.accounting.observer import Observer, Outcome
from ovs_metadata.proxy.control import confirmation
from ovs_metadata.proxy.control.confirmation import Confirmations
from ovs_metadata.proxy.control.identity import Entry, Identity, IdentityTable, canonical_address
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.guest.exchange import SAFE_METHODS, Exchange
from ovs_metadata.proxy.guest.guards import OwnAnswer, own_response
from ovs_metadata.proxy.guest.limits import (
    SMALL_BODY,
    ConnectionRegistry,
    PortLimits,
    connection_limit,
)
from ovs_metadata.proxy.guest.quarantine import Quarantine
from ovs_metadata.proxy.guest.state import (
    ANSWERING,
    READING,
    TRANSITIONS,
    UNHEARD,
    State,
    TransitionError,
)
from ovs_metadata.proxy.guest.transport import GuestTransport
from ovs_metadata.proxy.http.errors import ProxyError, render_error
from ovs_metadata.proxy.http.request import Request, render_request
from ovs_metadata.proxy.http.request_parser import Progress, RequestParser
from ovs_metadata.proxy.http.response import ResponsePart
from ovs_metadata.proxy.nova.pool import UpstreamPool

_log = logging.getLogger(__name__)

_FIRST_REQUEST_GRACE = 1.0
"""Seconds that a connection without a request stays open when the worker stops: its first request
may be on the way."""

_ERROR_AFTER_TIMEOUT = {
    State.READING_HEAD: ProxyError.REQUEST_TIMEOUT,
    State.READING_BODY: ProxyError.REQUEST_TIMEOUT,
    State.THROTTLED_BODY: ProxyError.TOO_MANY_REQUESTS,
    State.THROTTLED: ProxyError.TOO_MANY_REQUESTS,
    State.AWAITING_IDENTITY_FOR_BODY: ProxyError.NOT_READY,
    State.AWAITING_IDENTITY: ProxyError.NOT_READY,
    State.CONFIRMING_REQUEST: ProxyError.NOT_CONFIRMED,
    State.CONFIRMING_RESPONSE: ProxyError.NOT_CONFIRMED,
}


@dataclass(slots=True)
class GuestContext:
    """The part that all guest connections of a worker share. Settings are replaced as a whole."""

    settings: Settings
    table: IdentityTable
    pool: UpstreamPool
    registry: "ConnectionRegistry[GuestConnection]"
    quarantine: Quarantine
    observer: Observer
    confirmations: Confirmations
    now: Callable[[], float]
    """The event loop's time, in seconds."""
    draining: bool = False
    short_of_files: bool = False
    """Whether the worker has cut off connections for lack of file descriptors, and logged it."""

    def make_room(self) -> None:
        """Cut off a connection of the most crowded port if there are too many connections.

        It prefers a connection without a request.
        """
        wanted, count = self.settings.max_connections, len(self.registry)
        limit = connection_limit(wanted)
        if count > limit:
            if limit < wanted and not self.short_of_files:
                _log.warning(
                    "only %d connections are possible, not %d: this worker may open too few files "
                    "(LimitNOFILE of the unit, or ulimit -n)",
                    *(limit, wanted),
                )
                self.short_of_files = True
            self.observer.connection_refused("WORKER_LIMIT")
            min(self.registry.most_crowded().connections, key=lambda each: each.busy).cut_off()
        elif count <= limit // 2:
            self.short_of_files = False


class GuestConnection(asyncio.Protocol):
    """One accepted connection."""

    __slots__ = (
        "_context",
        "_discarded",
        "_entered",
        "_exchange",
        "_has_asked",
        "_has_body_slot",
        "_has_slot",
        "_identity",
        "_input_ended",
        "_now",
        "_output_full",
        "_parser",
        "_port",
        "_state",
        "_transport",
        "address",
        "deadline",
        "peer",
    )

    def __init__(self, context: GuestContext) -> None:
        settings = context.settings
        self._context = context
        self._now = context.now
        self._parser = RequestParser(settings.max_head, settings.max_headers, settings.max_body)
        # `connection_made` sets these two.
        self._transport: GuestTransport
        self._port: PortLimits[GuestConnection]
        self.address = ""
        """The local address: the port address of the port that the connection came in by. Empty if
        the guest left before it was accepted."""
        self.peer = ""
        """The peer address, which the guest chooses."""
        self._state = State.ACCEPTED
        self.deadline = math.inf
        """When the present state has lasted too long, in the event loop's time."""
        self._entered = math.inf  # when the present state began, by the same clock
        self._exchange: Exchange | None = None  # the request in hand
        self._identity: Identity | None = None  # that the response is for
        self._has_slot = False  # of its port, for the request in hand
        self._has_body_slot = False  # of its port, for a large body
        self._has_asked = False  # a whole request, ever
        self._input_ended = False
        self._output_full = False
        self._discarded = 0  # bytes of input, after an error

    def _enter(self, state: State, seconds: float = math.inf) -> None:
        """Enter a state for at most so many seconds: the only writer of state and times.

        Raises:
            TransitionError: the table has no such transition. The event loop closes the connection.
        """
        if state not in TRANSITIONS[self._state]:
            raise TransitionError(self._state, state)
        self._state = state
        self._entered = now = self._now()
        self.deadline = now + seconds

    @property
    def unheard_since(self) -> float:
        """When it began to wait for its guest; infinite if a whole request is here."""
        return self._entered if self._state in UNHEARD else math.inf

    @property
    def busy(self) -> bool:
        """Whether it has a request, or a response to send."""
        return self._state not in READING

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look up the connection's port; refuse the connection if the port has too many.

        Before that, one of them makes way if its guest leaves it unused.
        """
        context = self._context
        self._transport = GuestTransport(cast("asyncio.Transport", transport))
        local, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self.address = canonical_address(local[0]) if local else ""
        self.peer = canonical_address(peer[0]) if peer else ""
        self._port = context.registry.add(self, context.table.get(self.address))
        if not local or not peer:
            self._enter(State.CLOSING, context.settings.send_timeout)
            self._transport.reset()
            return
        context.observer.connection_opened()
        limit = context.settings.max_connections_per_port
        count = len(self._port.connections)
        if count <= limit or (count <= 2 * limit and self._displace()):
            self._enter(State.IDLE, context.settings.idle_timeout)
            context.make_room()
            return
        context.observer.connection_refused("PORT_LIMIT")
        if count <= 2 * limit:
            self._refuse(ProxyError.TOO_MANY_CONNECTIONS)
            context.make_room()
        else:  # the refusals must not pile up either
            self._record_abuse()
            self.cut_off()

    def data_received(self, data: bytes) -> None:
        """Read requests, or keep the bytes until the present exchange is over."""
        state = self._state
        if state in READING:
            self._parser.receive(data)
            self._take_request()
            if self._exchange is None:
                self._delay_reading()
        elif state is State.LINGERING:
            self._delay_reading()
            self._discarded += len(data)
            if self._discarded > self._context.settings.max_body:
                self.cut_off()
        elif state is not State.CLOSING:
            self._parser.receive(data)
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Note that no further request comes; the present exchange goes on.

        A guest may shut down its side after its request (RFC 9112, section 9.6). The proxy learns
        that a guest has left only when it writes to the guest, or the guest resets the connection.
        """
        self._input_ended = True
        if self._state in READING or self._state is State.LINGERING:
            self._end("GUEST_GONE")
            return False
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Give up the present exchange and leave the port."""
        self._end("GUEST_GONE")
        self._enter(State.CLOSED)
        self._context.confirmations.forget(self.confirmed)
        self._context.registry.remove(self, self._port)
        self._parser.close()

    def pause_writing(self) -> None:
        """Stop reading from Nova while the guest does not read. Only writes call this."""
        self._output_full = True
        exchange = self._exchange
        if exchange is not None and exchange.upstream is not None:
            exchange.upstream.pause()
            if self._state is State.STREAMING:
                self._enter(State.STREAMING, self._streaming_time(exchange))

    def resume_writing(self) -> None:
        """Continue: the guest has read enough."""
        self._output_full = False
        state, exchange = self._state, self._exchange
        if state is State.FLUSHING:
            if self._context.draining:
                self._close()
            else:
                self._await_request()
        elif state is State.BACKED_UP:
            self._go_on()
        elif state is State.STREAMING and exchange is not None and exchange.upstream is not None:
            self._enter(State.STREAMING, self._streaming_time(exchange))
            exchange.upstream.resume()

    # Called by the server.

    def deadline_passed(self) -> None:
        """End a state that has lasted too long, if its deadline is still the same."""
        if self._now() >= self.deadline:
            self.give_up()

    def give_up(self) -> None:
        """End the present state as one that has lasted too long."""
        state, exchange = self._state, self._exchange
        error = _ERROR_AFTER_TIMEOUT.get(state)
        if error is not None:
            self._refuse(error)
        elif state is State.IDLE:
            self._close()
        elif state in {State.WAITING, State.STREAMING} and not self._output_full:
            if exchange is not None and exchange.upstream is not None:
                self._context.pool.timed_out(exchange.upstream)
            self.request_failed(ProxyError.ENDPOINT_SILENT)
        else:
            self.cut_off()

    def drain(self) -> None:
        """Close as soon as the present exchange, if there is one, is over."""
        if self._state is State.IDLE:
            if self._has_asked:
                self._close()
            else:
                left = self.deadline - self._now()
                self._enter(State.IDLE, min(left, _FIRST_REQUEST_GRACE))

    def cut_off(self) -> None:
        """Close at once, in the middle of an exchange too."""
        self._end("CUT_OFF")
        self._transport.reset()

    # Called by the identity table, the port's limits and the confirmations.

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        """Act on a change of the identity table for this address."""
        if before is None and now is not None:
            self._change_port(now)
        state, exchange, identity = self._state, self._exchange, self._identity
        if now is None or (before is not None and before.port_id != now.port_id):
            self.cut_off()  # the address is another port's now
        elif isinstance(now, Identity) and now.is_guarded_more_than(before):
            self.cut_off()  # the options may forbid this connection now
        elif state in ANSWERING and identity is not None:
            if not identity.same_instance(now):
                self.cut_off()  # another instance has the address now
            elif exchange is not None and exchange.upstream is not None:
                self._renew(exchange, now)
        elif isinstance(now, Identity):
            if state is State.AWAITING_IDENTITY:
                self._go_on()
            elif state is State.AWAITING_IDENTITY_FOR_BODY:
                self._enter(State.READING_BODY, self._context.settings.body_timeout)
                self._invite_body()

    def slot_granted(self) -> None:
        """Continue: an earlier request of this port is over."""
        if self._state is State.THROTTLED:
            self._has_slot = True
            self._go_on()
        else:
            self._has_body_slot = True
            self._begin_body()
            self._read_on()

    def confirmed(self) -> None:
        """Continue: the identity table is no older than the request."""
        exchange = self._exchange
        if exchange is None or not self._context.confirmations.is_confirmed(exchange.ticket):
            return  # this call is for an earlier request
        if self._state is State.CONFIRMING_REQUEST:
            self._go_on()
            return
        held, exchange.held = exchange.held, []
        for part in held:
            self._deliver(exchange, part)
        upstream = exchange.upstream
        if self._exchange is exchange and not self._output_full and upstream is not None:
            upstream.resume()

    # Reading a request.

    def _await_request(self) -> None:
        self._enter(State.IDLE, self._context.settings.idle_timeout)
        self._read_on()

    def _read_on(self) -> None:
        """Take the input that is here already, and resume reading."""
        if self._state in READING:
            self._take_request()
        if self._state in READING:
            self._transport.resume_reading()

    def _take_request(self) -> None:
        """Take from the parser a request, an error, or the progress of a request."""
        taken = self._parser.take()
        if taken is None:
            if self._input_ended:
                self._close()
            else:
                self._follow(self._parser.progress)
        elif isinstance(taken, ProxyError):
            self._refuse(taken, head_only=self._parser.refused_head)
        else:
            self._begin_exchange(taken)

    def _follow(self, progress: Progress) -> None:
        state, settings = self._state, self._context.settings
        if progress is Progress.IDLE:
            if state is not State.IDLE:
                self._enter(State.IDLE, settings.idle_timeout)
        elif progress is Progress.HEAD:
            if state is State.IDLE:
                self._enter(State.READING_HEAD, settings.head_timeout)
        elif state in {State.IDLE, State.READING_HEAD}:
            if self._may_read_body():
                self._begin_body()
            else:
                self._enter(State.THROTTLED_BODY, settings.response_timeout)
                self._transport.pause_reading()

    def _begin_body(self) -> None:
        settings, head = self._context.settings, self._parser.head
        self._enter(State.READING_BODY, settings.body_timeout)
        if head is None or not head.expects_continue:
            return
        entry = self._context.table.awaited(self.address)
        if entry is None:
            self._refuse(ProxyError.NO_INTERFACE)
        elif isinstance(entry, Identity):
            self._invite_body()
        else:
            self._enter(State.AWAITING_IDENTITY_FOR_BODY, settings.pending_timeout)

    def _invite_body(self) -> None:
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # Sending it to Nova.

    def _begin_exchange(self, request: Request) -> None:
        exchange = self._exchange = Exchange(request)
        self._has_asked = True
        self._enter(State.RECEIVED)
        settings = self._context.settings
        rate = settings.rate_limit
        delay = 0.0
        if rate:
            delay = self._port.rate_delay(exchange.started, rate, settings.rate_limit_burst)
        if delay:
            retry_after = max(settings.retry_after, math.ceil(delay))
            self._refuse(ProxyError.RATE_LIMITED, retry_after=retry_after)
        else:
            self._advance(exchange)

    def _go_on(self) -> None:
        """Check again what the request has to wait for: all of it may have changed."""
        if self._exchange is not None:
            self._enter(State.RECEIVED)
            self._advance(self._exchange)

    def _advance(self, exchange: Exchange) -> None:
        """Send a request to Nova, or enter the state of the first thing that it waits for."""
        context = self._context
        settings = context.settings
        entry = context.table.awaited(self.address)
        if self._output_full:  # by 100 Continue
            self._enter(State.BACKED_UP, settings.send_timeout)
        elif entry is None:
            self._refuse(ProxyError.NO_INTERFACE)
        elif not isinstance(entry, Identity):
            _log.debug("a request from %s waits: %s", self.address, entry.reason)
            self._enter(State.AWAITING_IDENTITY, settings.pending_timeout)
        elif not (self._has_slot or self._acquire_slot()):
            self._enter(State.THROTTLED, settings.response_timeout)
        else:
            confirmations = context.confirmations
            if not exchange.ticket:
                exchange.ticket = confirmations.ticket()
            head = exchange.request.head
            own = own_response(head, entry, time()) if entry.guarded or head.guarded else None
            may_begin = own is None and head.method in SAFE_METHODS
            if not (may_begin or confirmations.is_confirmed(exchange.ticket)):
                confirmations.wait(exchange.ticket, self.confirmed)
                self._enter(State.CONFIRMING_REQUEST, confirmation.TIMEOUT)
            elif own is None:
                self._forward(exchange, entry)
            else:
                exchange.identity = entry
                if isinstance(own, OwnAnswer):
                    self._respond(own.cause, 200, own.data)
                else:
                    self._refuse(own)

    def _forward(self, exchange: Exchange, identity: Identity) -> None:
        self._identity = exchange.identity = identity
        exchange.forwarded = monotonic()
        context = self._context
        outgoing = render_request(exchange.request, identity, exchange.request_id)
        exchange.upstream = context.pool.submit(outgoing, self)
        if exchange.upstream.connection is not None:
            self._enter(State.WAITING, context.settings.response_timeout)
        else:
            self._enter(State.CONNECTING)  # the connect timeout is the pool's

    def _renew(self, exchange: Exchange, entry: Entry) -> None:
        """Replace the outgoing request: a retry carries this identity."""
        if isinstance(entry, Identity) and exchange.upstream is not None:
            self._identity = exchange.identity = entry
            request_id = exchange.request_id
            exchange.upstream.outgoing = render_request(exchange.request, entry, request_id)

    # Called by the pool and its connections.

    def request_sent(self) -> None:
        """Start waiting for Nova."""
        self._enter(State.WAITING, self._context.settings.response_timeout)

    def response_received(self, part: ResponsePart) -> None:
        """Forward a part of the response, or hold it until the identity is confirmed."""
        exchange = self._exchange
        if exchange is None:
            return
        confirmations = self._context.confirmations
        if part.head is not None:
            confirmations.answered(monotonic() - exchange.forwarded)
        if confirmations.is_confirmed(exchange.ticket):
            self._deliver(exchange, part)
            return
        exchange.held.append(part)
        if self._state is State.WAITING:
            confirmations.wait(exchange.ticket, self.confirmed)
            self._enter(State.CONFIRMING_RESPONSE, confirmation.TIMEOUT)
        if exchange.upstream is not None:
            exchange.upstream.pause()

    def request_failed(self, error: ProxyError) -> None:
        """Respond with the error, or cut off a response that has begun."""
        if self._exchange is not None and self._exchange.encoder.status:
            self.cut_off()
        else:
            self._refuse(error)

    # Responding.

    def _deliver(self, exchange: Exchange, part: ResponsePart) -> None:
        """Forward a part of the response, in one write."""
        encoder = exchange.encoder
        if self._context.draining:
            encoder.keep_alive = False
        data = encoder.encode(part)
        if not exchange.sent:
            exchange.first_byte = monotonic()
        exchange.sent += len(data)
        if not part.complete:
            # Before the write, which may set the shorter deadline of a full output.
            self._enter(State.STREAMING, self._streaming_time(exchange))
            self._transport.write(data)
            return
        self._transport.write(data)
        self._finish(exchange, encoder.status, None)
        self._release_slots()
        if not encoder.keep_alive:
            self._close()
        elif self._output_full:
            self._enter(State.FLUSHING, self._context.settings.send_timeout)
        else:
            self._await_request()

    def _streaming_time(self, exchange: Exchange) -> float:
        """Return for how many seconds to wait for the next part, or for room in the output."""
        settings = self._context.settings
        if not self._output_full:
            return settings.response_timeout
        # The event loop's time is the monotonic clock's.
        left = exchange.started + settings.answer_timeout - self._now()
        return min(settings.send_timeout, left)

    def _refuse(
        self, error: ProxyError, *, head_only: bool = False, retry_after: int | None = None
    ) -> None:
        """Respond with an error, and close as soon as the guest has had time to read it."""
        exchange = self._exchange
        if not self._transport.open:
            return
        _log.debug("%s: responding with %s", self.address, error.name)
        if exchange is not None and exchange.request.head.method == b"HEAD":
            head_only = True
        data = render_error(
            error,
            retry_after=retry_after or self._context.settings.retry_after,
            head_only=head_only,
        )
        if error.value.status < 500 or error is ProxyError.TOO_MANY_CONNECTIONS:
            self._record_abuse()
        self._respond(error.name, error.value.status, data)

    def _respond(self, cause: str, status: int, data: bytes) -> None:
        """Send a whole response of the proxy's own, and close as soon as the guest has read it."""
        transport, exchange, settings = self._transport, self._exchange, self._context.settings
        if exchange is not None:
            exchange.first_byte, exchange.sent = monotonic(), len(data)
            self._abandon(status, cause)
        elif cause != ProxyError.TOO_MANY_CONNECTIONS.name:  # it has no request
            now, head = monotonic(), self._parser.head
            method, target = (b"", b"") if head is None else (head.method, head.target)
            self._context.observer.request_done(
                Outcome(
                    peer=self.peer,
                    address=self.address,
                    port_id=self._port_id(),
                    instance_id="",
                    method=method,
                    target=target,
                    status=status,
                    cause=cause,
                    bytes_sent=len(data),
                    started=now,
                    first_byte=now,
                    ended=now,
                )
            )
        self._release_slots()
        self._parser.close()
        self._identity = None
        if self._input_ended:
            transport.write(data)
            self._close()
        else:
            self._enter(State.LINGERING, settings.linger_timeout)
            transport.write_last(data)

    # Ending the connection, or a request.

    def _close(self) -> None:
        """Close as soon as all written bytes are sent."""
        self._enter(State.CLOSING, self._context.settings.send_timeout)
        self._transport.close()

    def _end(self, cause: str) -> None:
        """Give up the exchange; the caller closes or resets the transport."""
        if not (self._has_asked or self.busy):
            self._record_abuse()
        exchange = self._exchange
        self._abandon(0 if exchange is None else exchange.encoder.status, cause)
        self._release_slots()
        self._identity = None
        self._enter(State.CLOSING, self._context.settings.send_timeout)

    def _abandon(self, status: int, cause: str) -> None:
        """Give up the present exchange, if there is one."""
        exchange = self._exchange
        if exchange is not None:
            if exchange.upstream is not None:
                exchange.upstream.abandon()
            self._finish(exchange, status, cause)

    def _finish(self, exchange: Exchange, status: int, cause: str | None) -> None:
        """Report an exchange that is over."""
        self._exchange = None
        head, identity = exchange.request.head, exchange.identity
        self._context.observer.request_done(
            Outcome(  # by position, which costs a third of keywords
                self.peer,
                self.address,
                self._port_id(),
                "" if identity is None else identity.instance_id,
                head.method,
                head.target,
                status,
                cause,
                exchange.sent,
                exchange.started,
                exchange.first_byte,
                monotonic(),
                exchange.request_id,
            )
        )

    # Using the port's share.

    def _port_id(self) -> str:
        """Return the port's id; empty if none is known."""
        name = self._port.name
        return "" if name == self.address else name

    def _change_port(self, entry: Entry) -> None:
        """Move to the port that the identity table now has for the address."""
        waits = self._state in {State.THROTTLED, State.THROTTLED_BODY}
        if not (waits or self._has_slot or self._has_body_slot):
            self._context.registry.remove(self, self._port)
            self._port = self._context.registry.add(self, entry)

    def _acquire_slot(self) -> bool:
        """Take a slot for the request, or join the queue for `slot_granted`."""
        limit = self._context.settings.max_requests_per_port
        self._has_slot = self._port.requests.acquire(self, limit)
        return self._has_slot

    def _may_read_body(self) -> bool:
        """Whether the body may be read; if not, join the queue for `slot_granted`."""
        head = self._parser.head
        if head is None or not (head.chunked or head.length > SMALL_BODY):
            return True
        limit = self._context.settings.max_requests_per_port
        self._has_body_slot = self._port.bodies.acquire(self, limit)
        return self._has_body_slot

    def _release_slots(self) -> None:
        """Free the slots for the port's next requests, or leave the queue for one."""
        port, state = self._port, self._state
        limit = self._context.settings.max_requests_per_port
        if self._has_slot:
            self._has_slot = False
            port.requests.release(limit)
        elif state is State.THROTTLED:
            port.requests.leave_queue(self)
        elif state is State.THROTTLED_BODY:
            port.bodies.leave_queue(self)
        if self._has_body_slot:
            self._has_body_slot = False
            port.bodies.release(limit)

    def _displace(self) -> bool:
        """Whether another connection of the port makes way for this one."""
        other = self._port.unheard(self._now())
        if other is None:
            return False
        other.give_up()
        return True

    def _delay_reading(self) -> None:
        """Pause reading for as long as the port's reads without a whole request demand."""
        self._transport.delay_reading(self._port.read_delay(self._now()))

    def _record_abuse(self) -> None:
        """Count this connection as an abuse by its port."""
        settings = self._context.settings
        self._context.quarantine.record_abuse(
            self.address,
            now=self._now(),
            tolerance=2 * settings.max_connections_per_port,
            duration=settings.quarantine,
        )
