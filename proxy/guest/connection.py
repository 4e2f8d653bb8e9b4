"""A guest's connection: takes requests one at a time and in order, gives responses.

All of it runs on the event loop's thread. A connection lives until the guest or the proxy closes it
or its address leaves the identity table. Parsing and every decision about a request or a response
are elsewhere, as functions on values; here are the socket, the order of events and the deadlines.

See `proxy.phase` for the phases it goes through. While it is not READING, at most one read's worth
of further input is kept, and reading is paused then. So only a guest that pipelines can go away
unnoticed until its turn comes.
"""

import asyncio
import logging
import math
from time import monotonic

from ovs_metadata.proxy.control import confirmation
from ovs_metadata.proxy.control.identity import Entry, Identity
from ovs_metadata.proxy.guest.exchange import Exchange
from ovs_metadata.proxy.guest.port_connection import GuestContext, PortConnection
from ovs_metadata.proxy.guest.state import Phase
from ovs_metadata.proxy.http.errors import ProxyError, render_error
from ovs_metadata.proxy.http.request import Request, render_request
from ovs_metadata.proxy.http.request_parser import Progress, RequestParser
from ovs_metadata.proxy.http.response import ResponseEncoder, ResponsePart

_log = logging.getLogger(__name__)

# A connection that has brought no request yet when the worker is asked to stop gets this long, in
# seconds: its request may already be on the way.
_FIRST_REQUEST_GRACE = 1.0

# Looking up a member of an enumeration costs as much as a call, and these are on every request's
# way.
_READING, _RELAYING, _CLOSING = Phase.READING, Phase.RELAYING, Phase.CLOSING
_IDLE = Progress.IDLE


class GuestConnection(PortConnection):
    """One accepted connection."""

    __slots__ = (
        "_continue_due",
        "_discarded",
        "_exchange",
        "_identity",
        "_input_ended",
        "_output_full",
        "_parser",
        "_progress",
        "_served",
    )

    def __init__(self, context: GuestContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._parser = RequestParser(settings.max_head, settings.max_headers, settings.max_body)
        self._progress: Progress | None = None  # what the deadline of READING was set for
        self._output_full = False
        self._input_ended = False
        self._continue_due = False
        self._served = False
        self._discarded = 0
        self._exchange: Exchange | None = None  # the request in hand
        self._identity: Identity | None = None  # whose response was or is being sent

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is, and refuse it if its port has too many connections."""
        beyond = self._join_port(transport)
        if self._port is None:
            self.cut_off()  # gone before it was accepted
        elif not beyond:
            self._await_request()
            self._context.make_room()
        elif beyond <= self._context.settings.max_connections_per_port:
            self._refuse(ProxyError.TOO_MANY_CONNECTIONS)
            self._context.make_room()
        else:
            self.cut_off()  # not even the refusals may pile up

    def data_received(self, data: bytes) -> None:
        """Read requests, or keep the bytes until the present one is done."""
        if self._phase is _READING:
            self._parser.receive(data)
            self._proceed()
            if self._exchange is None:
                self._rest()
        elif self._phase is Phase.LINGERING:
            self._rest()
            self._discarded += len(data)
            if self._discarded > self._context.settings.max_body:
                self.cut_off()
        elif self._phase is not _CLOSING:
            self._parser.receive(data)
            if self._transport is not None:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Note that no further request will come; what was asked is still answered.

        A guest may shut down its side once it has asked (RFC 9112, section 9.6). That it has gone
        away altogether shows only when it is sent something, or resets the connection.
        """
        self._input_ended = True
        if self._phase in {Phase.READING, Phase.LINGERING}:
            self._end_at_once("GUEST_GONE")
            return False
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Give up what was being done for the guest."""
        self._end_at_once("GUEST_GONE")
        self._context.confirmations.forget(self)
        self._parser.close()
        self._leave_port()

    def pause_writing(self) -> None:
        """Stop reading from Nova while the guest does not read."""
        self._output_full = True
        settings = self._context.settings
        self._set_deadline(settings.send_timeout)
        exchange = self._exchange
        if exchange is not None:
            if exchange.upstream is not None:
                exchange.upstream.pause()
            # The event loop's time is the monotonic clock's.
            self.deadline = min(self.deadline, exchange.started + settings.answer_timeout)

    def resume_writing(self) -> None:
        """Go on when the guest has caught up."""
        self._output_full = False
        exchange = self._exchange
        if self._phase is Phase.FLUSHING:
            if exchange is not None:
                self._begin_answer(exchange)
            elif self._context.draining:
                self._close()
            else:
                self._await_request()
        elif exchange is not None and exchange.upstream is not None and not exchange.held:
            self._set_deadline(self._context.settings.response_timeout)
            exchange.upstream.resume()

    # Called by the server.

    def deadline_passed(self) -> None:
        """End a phase that has lasted too long, if that still is so."""
        phase = self._phase
        if self._now() < self.deadline:
            return
        if phase is Phase.HELD or (phase is _READING and self._continue_due):
            self._refuse(ProxyError.NOT_READY)
        elif phase is Phase.QUEUED:
            self._refuse(ProxyError.TOO_MANY_REQUESTS)
        elif phase is Phase.CONFIRMING or (self._exchange and self._exchange.held):
            self._refuse(ProxyError.NOT_CONFIRMED)
        elif phase is _READING:
            if self._parser.progress is _IDLE:
                self._close()
            else:
                self._refuse(ProxyError.REQUEST_TIMEOUT)
        elif phase is _RELAYING and not self._output_full:
            if self._exchange is not None and self._exchange.upstream is not None:
                self._exchange.upstream.report_timeout()
            self.request_failed(ProxyError.ENDPOINT_SILENT)
        else:
            self.cut_off()

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        """Act on a change of the identity table for this address."""
        if before is None and now is not None:
            self._change_port(now)
        under_way = self._phase in {Phase.RELAYING, Phase.FLUSHING, Phase.CLOSING}
        if now is None or (before is not None and before.port_id != now.port_id):
            self.cut_off()  # another port has the address now: nothing of this one's is for it
        elif under_way and self._identity is not None:
            if not self._identity.same_instance(now):
                self.cut_off()  # the response under way is not for whoever is there now
            elif isinstance(now, Identity) and self._exchange is not None:
                self._renew(self._exchange, now)
        elif isinstance(now, Identity):
            if self._phase is Phase.HELD and self._exchange is not None:
                self._queue(self._exchange, now)
            elif self._phase is _READING and self._continue_due:
                self._invite_body()

    def slot_granted(self) -> None:
        """Go on: an earlier request of this port is done."""
        self._has_slot = True
        if self._exchange is not None:
            self._relay_after_wait(self._exchange)
            return
        self._phase = _READING
        self._begin_body()
        if self._phase is _READING:
            self._resume_reading()

    def confirmed(self) -> None:
        """Go on: the identity table is no older than the request."""
        exchange = self._exchange
        if exchange is None or not self._context.confirmations.is_confirmed(exchange.ticket):
            return  # it was another request that waited
        if self._phase is Phase.CONFIRMING:
            self._relay_after_wait(exchange)
            return
        held, exchange.held = exchange.held, []
        for part in held:
            self._deliver(exchange, part)
        if self._exchange is exchange and not self._output_full and exchange.upstream:
            exchange.upstream.resume()

    def _relay_after_wait(self, exchange: Exchange) -> None:
        # Another port may have the address since then.
        entry = self._context.table.get(self.address)
        if isinstance(entry, Identity):
            self._relay(exchange, entry)
        else:
            self._refuse(ProxyError.NO_INTERFACE if entry is None else ProxyError.NOT_READY)

    def drain(self) -> None:
        """Close as soon as the request in hand, if any, is answered."""
        if self._phase is _READING and self._parser.progress is _IDLE:
            if self._served:
                self._close()
            else:
                self.deadline = min(self.deadline, self._now() + _FIRST_REQUEST_GRACE)

    def cut_off(self) -> None:
        """Close at once, whatever is in hand."""
        self._end_at_once("CUT_OFF")
        if self._transport is not None:
            self._transport.reset()

    # Reading requests.

    def _await_request(self) -> None:
        self._phase = _READING
        self._progress = None
        self._resume_reading()

    def _resume_reading(self) -> None:
        """Read what is there already, and then more."""
        self._proceed()
        if self._phase is _READING and self._transport is not None:
            self._transport.resume_reading()

    def _proceed(self) -> None:
        taken = self._parser.take()
        if taken is None:
            if self._input_ended:
                self._close()
            else:
                self._set_reading_deadline()
        elif isinstance(taken, ProxyError):
            self._refuse(taken, head_only=self._parser.refused_head)
        else:
            self._begin_request(taken)

    def _set_reading_deadline(self) -> None:
        progress = self._parser.progress
        if progress is self._progress:
            return
        self._progress = progress
        settings = self._context.settings
        if progress is _IDLE:
            self.deadline = self._now() + settings.idle_timeout
        elif progress is Progress.HEAD:
            self._set_deadline(settings.head_timeout)
        elif self._acquire_slot():
            self._begin_body()
        elif self._transport is not None:
            self._transport.pause_reading()

    def _begin_body(self) -> None:
        self._set_deadline(self._context.settings.body_timeout)
        head = self._parser.head
        if head is not None and head.expects_continue:
            self._answer_expectation()

    def _answer_expectation(self) -> None:
        entry = self._context.table.get(self.address)
        if entry is None:
            self._refuse(ProxyError.NO_INTERFACE)
        elif isinstance(entry, Identity):
            self._invite_body()
        else:
            self._continue_due = True
            self._set_deadline(self._context.settings.pending_timeout)

    def _invite_body(self) -> None:
        self._continue_due = False
        self._set_deadline(self._context.settings.body_timeout)
        if self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # Answering one.

    def _begin_request(self, request: Request) -> None:
        exchange = self._exchange = Exchange(request)
        self._continue_due = False
        self._served = True
        if self._output_full:  # by 100 Continue; nothing is asked for that could not be passed on
            self._phase = Phase.FLUSHING
            self._set_deadline(self._context.settings.send_timeout)
        else:
            self._begin_answer(exchange)

    def _begin_answer(self, exchange: Exchange) -> None:
        context = self._context
        settings = context.settings
        if settings.rate_limit and self._port is not None:
            now = exchange.started
            delay = self._port.rate_delay(now, settings.rate_limit, settings.rate_limit_burst)
            if delay:
                retry_after = max(settings.retry_after, math.ceil(delay))
                self._refuse(ProxyError.RATE_LIMITED, retry_after=retry_after)
                return
        entry = context.table.get(self.address)
        if isinstance(entry, Identity):
            self._queue(exchange, entry)
        elif entry is None:
            self._refuse(ProxyError.NO_INTERFACE)
        else:
            _log.debug("a request from %s waits: %s", self.address, entry.reason)
            self._phase = Phase.HELD
            self._set_deadline(settings.pending_timeout)

    def _queue(self, exchange: Exchange, identity: Identity) -> None:
        """Ask Nova now, or when the port has fewer requests under way."""
        if self._has_slot or self._acquire_slot():
            self._relay(exchange, identity)

    def _relay(self, exchange: Exchange, identity: Identity) -> None:
        if not exchange.ticket:
            exchange.ticket = self._context.confirmations.ticket()
        if not exchange.is_safe and self._must_wait(exchange):
            self._phase = Phase.CONFIRMING
            return
        self._phase = _RELAYING
        self._identity = exchange.identity = identity
        exchange.relayed = monotonic()
        request = exchange.request
        exchange.encoder = ResponseEncoder(request.head.http_1_1, request.head.keep_alive)
        outgoing = render_request(request, identity, exchange.request_id)
        upstream = exchange.upstream = self._context.pool.submit(outgoing, self)
        if upstream.connection is not None:
            self.request_sent()
        else:
            self.deadline = math.inf  # the connect timeout is the pool's

    def _must_wait(self, exchange: Exchange) -> bool:
        """Whether a request's confirmation has yet to come; if so, `confirmed` is called then."""
        confirmations = self._context.confirmations
        if confirmations.is_confirmed(exchange.ticket):
            return False
        if not exchange.held:
            confirmations.wait(exchange.ticket, self)
            self._set_deadline(confirmation.TIMEOUT)
        return True

    def _renew(self, exchange: Exchange, identity: Identity) -> None:
        """Replace the request in hand: whenever it is sent (again), it carries this identity."""
        upstream = exchange.upstream
        if upstream is not None:
            self._identity = exchange.identity = identity
            request_id = exchange.request_id
            upstream.outgoing = render_request(exchange.request, identity, request_id)

    # Called by the pool and its connections.

    def request_sent(self) -> None:
        """Start waiting for Nova."""
        self.deadline = self._now() + self._context.settings.response_timeout

    def response_received(self, part: ResponsePart) -> None:
        """Pass on a part of the response, or keep it until the identity is confirmed."""
        exchange = self._exchange
        if exchange is None:
            return
        if part.head is not None:
            self._context.confirmations.answered(monotonic() - exchange.relayed)
        if self._must_wait(exchange):
            exchange.held.append(part)
            if exchange.upstream is not None:
                exchange.upstream.pause()
        else:
            self._deliver(exchange, part)

    def _deliver(self, exchange: Exchange, part: ResponsePart) -> None:
        """Pass on a part of the response, in one write."""
        encoder, transport = exchange.encoder, self._transport
        if encoder is None or transport is None:
            return
        if self._context.draining:
            encoder.keep_alive = False
        data = encoder.encode(part)
        if not exchange.sent:
            exchange.first_byte = monotonic()
        exchange.sent += len(data)
        if part.complete:
            transport.write(data)
            self._response_complete(exchange, keep_alive=encoder.keep_alive)
        else:
            # Before the write, which may set the shorter deadline of a full output buffer.
            self._set_deadline(self._context.settings.response_timeout)
            transport.write(data)

    def request_failed(self, error: ProxyError) -> None:
        """Say so to the guest, or cut a response short that has already begun."""
        if self._exchange is not None and self._exchange.status:
            self.cut_off()
        else:
            self._refuse(error)

    def _response_complete(self, exchange: Exchange, *, keep_alive: bool) -> None:
        self._finish(exchange, exchange.status, None)
        self._release_slot()
        if not keep_alive:
            self._close()
        elif self._output_full:
            self._phase = Phase.FLUSHING
            self._set_deadline(self._context.settings.send_timeout)
        else:
            self._await_request()

    # Ending the connection.

    def _refuse(
        self, error: ProxyError, *, head_only: bool = False, retry_after: int | None = None
    ) -> None:
        """Answer with an error of the proxy's own, and close once the guest could read it."""
        transport, exchange = self._transport, self._exchange
        if transport is None or not transport.open:
            return
        _log.debug("%s: answered with %s", self.address, error.name)
        if exchange is not None and exchange.request.head.method == b"HEAD":
            head_only = True
        settings = self._context.settings
        data = render_error(
            error, retry_after=retry_after or settings.retry_after, head_only=head_only
        )
        status = error.value.status
        if status < 500 or error is ProxyError.TOO_MANY_CONNECTIONS:
            self._record_abuse()
        if exchange is not None:
            exchange.first_byte, exchange.sent = monotonic(), len(data)
            self._abandon(status, error.name)
        elif error is not ProxyError.TOO_MANY_CONNECTIONS:  # of which there is no request
            now = monotonic()
            head = self._parser.head
            asked = (b"", b"") if head is None else (head.method, head.target)
            self._context.observer.request_done(
                *(self.address, self._port_id(), "", *asked, status, error.name, len(data)),
                *(now, now, now, b""),
            )
        self._release_slot()
        self._continue_due = False
        self._identity = None
        if self._input_ended:
            transport.write(data)
            self._close()
        else:
            self._phase = Phase.LINGERING
            transport.write_last(data)
            self._set_deadline(settings.linger_timeout)

    def _end_at_once(self, cause: str) -> None:
        if self._phase is _READING and not self._served and self._port is not None:
            self._record_abuse()
        exchange = self._exchange
        self._abandon(0 if exchange is None else exchange.status, cause)
        self._release_slot()
        self._continue_due = False
        self._identity = None
        self._phase = _CLOSING

    def _abandon(self, status: int, cause: str) -> None:
        """Give up the request in hand, if there is one."""
        exchange = self._exchange
        if exchange is not None:
            if exchange.upstream is not None:
                exchange.upstream.abandon()
            self._finish(exchange, status, cause)

    def _finish(self, exchange: Exchange, status: int, cause: str | None) -> None:
        """Report a request that is over."""
        self._exchange = None
        exchange.report(self._context.observer, self.address, self._port_id(), status, cause)
