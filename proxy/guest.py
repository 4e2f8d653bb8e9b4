"""A guest's connection: takes requests one at a time and in order, gives answers.

All of it runs on the event loop's thread. A connection lives until the guest or the proxy closes it
or its address leaves the identity table. Parsing and every decision about a request or an answer
are elsewhere, as functions on values; here are the socket, the order of events and the deadlines.

The phases of a connection, and what ends each:

    READING    a request is awaited or arriving      whole request; idle, head or body timeout
    HELD       its port's identity is pending        identity known; pending timeout
    RELAYING   Nova is asked                         answer complete or failed; response timeout
    FLUSHING   the guest has yet to read the answer  output buffer drained; send timeout
    LINGERING  an error was answered, input is       guest closes; linger timeout
               discarded so that it can be read
    CLOSING    the last answer is being sent         sent; send timeout

While not READING, at most one read's worth of further input is kept, and reading is paused then.
So only a guest that pipelines can go away unnoticed until its turn comes.
"""

import asyncio
import enum
import logging
import math
from dataclasses import dataclass
from typing import cast

from ovs_metadata.proxy.answer import AnswerEncoder, AnswerPart
from ovs_metadata.proxy.channel import GuestChannel
from ovs_metadata.proxy.errors import Failure, render_failure
from ovs_metadata.proxy.identity import Entry, Identity, IdentityTable, canonical_address
from ovs_metadata.proxy.pool import UpstreamPool
from ovs_metadata.proxy.registry import ConnectionRegistry
from ovs_metadata.proxy.request import Request, render_request
from ovs_metadata.proxy.request_parser import Progress, RequestParser
from ovs_metadata.proxy.settings import Settings
from ovs_metadata.proxy.upstream import Exchange

_log = logging.getLogger(__name__)

# A connection that has brought no request yet when the worker is asked to stop gets this long, in
# seconds: its request may already be on the way.
_FIRST_REQUEST_GRACE = 1.0


class Phase(enum.Enum):
    """See the module's description."""

    READING = enum.auto()
    HELD = enum.auto()
    RELAYING = enum.auto()
    FLUSHING = enum.auto()
    LINGERING = enum.auto()
    CLOSING = enum.auto()


@dataclass(slots=True)
class GuestContext:
    """What all guest connections of a worker share. The settings are replaced as a whole."""

    settings: Settings
    table: IdentityTable
    pool: UpstreamPool
    registry: "ConnectionRegistry[GuestConnection]"
    draining: bool = False


class GuestConnection(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, context: GuestContext) -> None:
        settings = context.settings
        self._context = context
        self._now = asyncio.get_running_loop().time
        self._parser = RequestParser(
            max_head=settings.max_head,
            max_headers=settings.max_headers,
            max_body=settings.max_body,
        )
        self._channel: GuestChannel | None = None
        self._address = ""
        self._phase = Phase.READING
        self.deadline = math.inf
        """When the present phase has lasted too long, in the event loop's time."""
        self._progress: Progress | None = None  # what the deadline of READING was set for
        self._output_full = False
        self._input_ended = False
        self._continue_due = False
        self._served = False
        # Of the request in hand:
        self._request: Request | None = None
        self._identity: Identity | None = None
        self._exchange: Exchange | None = None
        self._answer: AnswerEncoder | None = None

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is, and refuse it if its port has too many connections."""
        self._channel = GuestChannel(cast("asyncio.Transport", transport))
        peer = transport.get_extra_info("peername")
        if not peer:
            self.cut_off()  # gone before it was accepted
            return
        self._address = canonical_address(peer[0])
        context = self._context
        entry = context.table.get(self._address)
        count = context.registry.add(self, address=self._address, entry=entry)
        limit = context.settings.max_connections_per_port
        if count <= limit:
            self._await_request()
        elif count <= 2 * limit:
            self._refuse(Failure.TOO_MANY_CONNECTIONS)
        else:
            self.cut_off()  # not even the refusals may pile up

    def data_received(self, data: bytes) -> None:
        """Read requests, or keep the bytes until the present one is done."""
        if self._phase is Phase.READING:
            self._parser.receive(data)
            self._proceed()
        elif self._phase not in {Phase.LINGERING, Phase.CLOSING}:
            self._parser.receive(data)
            if self._channel is not None:
                self._channel.pause_reading()

    def eof_received(self) -> bool:
        """Note that no further request will come; what was asked is still answered.

        A guest may shut down its side once it has asked (RFC 9112, section 9.6). That it has gone
        away altogether shows only when it is sent something, or resets the connection.
        """
        self._input_ended = True
        if self._phase in {Phase.READING, Phase.LINGERING}:
            self._phase = Phase.CLOSING
            self._abandon()
            return False
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Give up what was being done for the guest."""
        self._phase = Phase.CLOSING
        self._abandon()
        self._parser.close()
        self._context.registry.remove(self)
        self._channel = None
        self.deadline = math.inf

    def pause_writing(self) -> None:
        """Stop reading from Nova while the guest does not read."""
        self._output_full = True
        if self._exchange is not None:
            self._exchange.pause()
        self._set_deadline(self._context.settings.send_timeout)

    def resume_writing(self) -> None:
        """Go on when the guest has caught up."""
        self._output_full = False
        if self._phase is Phase.FLUSHING:
            if self._context.draining:
                self._close()
            else:
                self._await_request()
        elif self._exchange is not None:
            self._set_deadline(self._context.settings.response_timeout)
            self._exchange.resume()

    # Called by the server.

    def deadline_passed(self) -> None:
        """End a phase that has lasted too long, if that still is so."""
        phase = self._phase
        if self._now() < self.deadline:
            return
        if phase is Phase.HELD or (phase is Phase.READING and self._continue_due):
            self._refuse(Failure.NOT_READY)
        elif phase is Phase.READING:
            if self._parser.progress is Progress.IDLE:
                self._close()
            else:
                self._refuse(Failure.REQUEST_TIMEOUT)
        elif phase is Phase.RELAYING and not self._output_full:
            self.exchange_failed(Failure.ENDPOINT_SILENT)
        else:
            self.cut_off()

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        """Act on a change of the identity table for this address."""
        under_way = self._phase in {Phase.RELAYING, Phase.FLUSHING, Phase.CLOSING}
        if now is None or (before is not None and before.port_id != now.port_id):
            self.cut_off()  # another port has the address now: nothing of this one's is for it
        elif under_way and self._identity is not None:
            if not self._identity.same_instance(now):
                self.cut_off()  # the answer under way is not for whoever is there now
        elif isinstance(now, Identity):
            if self._phase is Phase.HELD and self._request is not None:
                self._relay(self._request, now)
            elif self._phase is Phase.READING and self._continue_due:
                self._invite_body()

    def drain(self) -> None:
        """Close as soon as the request in hand, if any, is answered."""
        if self._phase is Phase.READING and self._parser.progress is Progress.IDLE:
            if self._served:
                self._close()
            else:
                self.deadline = min(self.deadline, self._now() + _FIRST_REQUEST_GRACE)

    def cut_off(self) -> None:
        """Close at once, whatever is in hand."""
        self._phase = Phase.CLOSING
        self._abandon()
        if self._channel is not None:
            self._channel.reset()

    # Reading requests.

    def _await_request(self) -> None:
        self._phase = Phase.READING
        self._progress = None
        self._proceed()
        if self._phase is Phase.READING and self._channel is not None:
            self._channel.resume_reading()

    def _proceed(self) -> None:
        taken = self._parser.take()
        if taken is None and self._input_ended:
            self._close()
        elif taken is None:
            self._set_reading_deadline()
        elif isinstance(taken, Failure):
            self._refuse(taken, head_only=self._parser.refused_head)
        else:
            self._begin_request(taken)

    def _set_reading_deadline(self) -> None:
        progress = self._parser.progress
        if progress is self._progress:
            return
        self._progress = progress
        settings = self._context.settings
        if progress is Progress.IDLE:
            self._set_deadline(settings.idle_timeout)
        elif progress is Progress.HEAD:
            self._set_deadline(settings.head_timeout)
        else:
            self._set_deadline(settings.body_timeout)
            head = self._parser.head
            if head is not None and head.expects_continue:
                self._answer_expectation()

    def _answer_expectation(self) -> None:
        entry = self._context.table.get(self._address)
        if entry is None:
            self._refuse(Failure.NO_INTERFACE)
        elif isinstance(entry, Identity):
            self._invite_body()
        else:
            self._continue_due = True
            self._set_deadline(self._context.settings.pending_timeout)

    def _invite_body(self) -> None:
        self._continue_due = False
        self._set_deadline(self._context.settings.body_timeout)
        if self._channel is not None:
            self._channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # Answering one.

    def _begin_request(self, request: Request) -> None:
        self._request = request
        self._continue_due = False
        self._served = True
        entry = self._context.table.get(self._address)
        if isinstance(entry, Identity):
            self._relay(request, entry)
        elif entry is None:
            self._refuse(Failure.NO_INTERFACE)
        else:
            _log.debug("a request from %s waits: %s", self._address, entry.reason)
            self._phase = Phase.HELD
            self._set_deadline(self._context.settings.pending_timeout)

    def _relay(self, request: Request, identity: Identity) -> None:
        self._phase = Phase.RELAYING
        self._identity = identity
        head = request.head
        self._answer = AnswerEncoder(http_1_1=head.http_1_1, keep_alive=head.keep_alive)
        exchange = self._context.pool.submit(render_request(request, identity), self)
        self._exchange = exchange
        if exchange.connection is not None:
            self.request_sent()
        else:
            self.deadline = math.inf  # the connect timeout is the pool's

    # Called by the pool and its connections.

    def request_sent(self) -> None:
        """Start waiting for Nova."""
        self._set_deadline(self._context.settings.response_timeout)

    def answer_received(self, part: AnswerPart) -> None:
        """Pass on a part of the answer, in one write."""
        answer, channel = self._answer, self._channel
        if answer is None or channel is None:
            return
        if self._context.draining:
            answer.keep_alive = False
        data = answer.encode(part)
        # Before the write, which may set the shorter deadline of a full output buffer.
        self._set_deadline(self._context.settings.response_timeout)
        channel.write(data)
        if part.complete:
            self._answer_complete(keep_alive=answer.keep_alive)

    def exchange_failed(self, failure: Failure) -> None:
        """Say so to the guest, or cut an answer short that has already begun."""
        if self._answer is not None and self._answer.started:
            self.cut_off()
        else:
            self._refuse(failure)

    def _answer_complete(self, *, keep_alive: bool) -> None:
        # The identity stays: until the next request, it is the one whose answer is being sent.
        self._exchange = self._request = self._answer = None
        if not keep_alive:
            self._close()
        elif self._output_full:
            self._phase = Phase.FLUSHING
            self._set_deadline(self._context.settings.send_timeout)
        else:
            self._await_request()

    # Ending the connection.

    def _refuse(self, failure: Failure, *, head_only: bool = False) -> None:
        """Answer with an error of the proxy's own, and close once the guest could read it."""
        channel, request = self._channel, self._request
        if channel is None or not channel.open:
            return
        head_only = head_only or (request is not None and request.head.method == b"HEAD")
        _log.debug("%s: answered with %s", self._address, failure.name)
        self._abandon()
        self._phase = Phase.LINGERING
        settings = self._context.settings
        channel.write_last(
            render_failure(failure, retry_after=settings.retry_after, head_only=head_only)
        )
        self._set_deadline(settings.linger_timeout)

    def _close(self) -> None:
        """Close once everything written is sent."""
        self._phase = Phase.CLOSING
        self._set_deadline(self._context.settings.send_timeout)
        if self._channel is not None:
            self._channel.close()

    def _abandon(self) -> None:
        exchange = self._exchange
        self._exchange = self._request = self._identity = self._answer = None
        self._continue_due = False
        if exchange is not None:
            exchange.abandon()

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = self._now() + seconds
