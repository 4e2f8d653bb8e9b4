"""The connections to Nova: to the first endpoint that is well, kept, used again.

All of it runs on the event loop's thread. The pool lives as long as the worker.

What is sent again, and when:

- A request that found no connection was not sent, so it is tried with the next endpoint, whatever
  its method. Only when no endpoint has accepted a connection for a while has it failed.
- A request whose connection broke before any byte of an answer is sent again if its method is
  idempotent, on a fresh connection. If the connection that broke was fresh, this happens once.
- Other methods always get a fresh connection, so that Nova's closing of a kept one at the very
  moment of its use cannot hit them.
- Once a byte of an answer has come, nothing is sent again.

What a connection says before it is asked anything is for nobody: it is closed at once, and before
each use the socket itself is asked for bytes that the event loop has not read yet.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Coroutine
from typing import Any

from ovs_metadata.proxy.endpoint import Endpoint
from ovs_metadata.proxy.errors import Failure
from ovs_metadata.proxy.health import (
    EndpointHealth,
    Health,
    accepted,
    failed,
    is_due,
    trial_order,
    tried,
)
from ovs_metadata.proxy.request import OutgoingRequest
from ovs_metadata.proxy.settings import Settings
from ovs_metadata.proxy.tls import tls_context, tls_settings
from ovs_metadata.proxy.upstream import AnswerReceiver, Exchange, UpstreamConnection

_log = logging.getLogger(__name__)

_PAUSE_BETWEEN_TRIALS = 0.25
"""Seconds between two trials while requests wait that found no endpoint."""


class EndpointConnections:
    """One endpoint with its health and the connections kept to it; the owner of all of them."""

    def __init__(
        self,
        pool: "UpstreamPool",
        endpoint: Endpoint,
        context: ssl.SSLContext | None,
        *,
        now: float,
    ) -> None:
        self._pool = pool
        self.endpoint = endpoint
        self._context = context
        self.health = Health(since=now)
        self.retired = False
        # In order of use, the latest last: it is the least likely to have been closed by Nova.
        self._idle: dict[UpstreamConnection, None] = {}

    @property
    def idle_count(self) -> int:
        """How many connections wait for their next request."""
        return len(self._idle)

    def take_idle(self) -> UpstreamConnection | None:
        """Return a kept connection that can be used, if there is one."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.usable:
                return connection
            connection.abort()
        return None

    async def open(self, settings: Settings) -> UpstreamConnection:
        """Make a connection, with its TLS.

        Raises:
            OSError: there is none to be had; TimeoutError and TLS errors included.
        """
        async with asyncio.timeout(settings.connect_timeout):
            transport, connection = await asyncio.get_running_loop().create_connection(
                lambda: UpstreamConnection(
                    self,
                    self.endpoint,
                    max_head=settings.max_head,
                    max_headers=settings.max_headers,
                ),
                self.endpoint.host,
                self.endpoint.port,
                ssl=self._context,
            )
        # The socket of a TLS connection may rightly be readable now, for session tickets.
        if transport.is_closing() if self._context else not connection.usable:
            connection.abort()
            raise ConnectionResetError("it closed a connection at once, or spoke unasked")
        return connection

    def sweep(self, oldest_allowed: float) -> None:
        """Close what has been idle since before a time of the event loop's."""
        for connection in list(self._idle):
            if connection.idle_since > oldest_allowed:
                return
            del self._idle[connection]
            connection.abort()

    def retire(self) -> None:
        """Keep no connections any more."""
        self.retired = True
        while self._idle:
            connection, _ = self._idle.popitem()
            connection.abort()

    # Called by connections.

    def connection_free(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose answer is complete, if there is room."""
        pool = self._pool
        if not self.retired and len(self._idle) < pool.settings.upstream_max_idle:
            connection.idle_since = pool.now()
            self._idle[connection] = None
        else:
            connection.abort()

    def connection_gone(self, connection: UpstreamConnection) -> None:
        """Forget a connection that is closed."""
        self._idle.pop(connection, None)

    def endpoint_silent(self) -> None:
        """Leave an endpoint alone for a while that accepts requests and says nothing."""
        self._pool.endpoint_failed(self, "it did not answer in time")

    def exchange_broken(self, exchange: Exchange, *, answered: bool, cause: str) -> None:
        """Have the pool decide what becomes of an exchange."""
        self._pool.exchange_broken(self, exchange, answered=answered, cause=cause)


class UpstreamPool:
    """Sends requests to Nova. Make it within a running event loop; `sweep` must be called often.

    Raises:
        TlsError: a PEM text in the settings cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.now = asyncio.get_running_loop().time
        """The event loop's time."""
        self.settings = settings
        self._tasks: set[asyncio.Task[None]] = set()
        self._trial: asyncio.Task[None] | None = None
        self._endpoints = self._make_endpoints(settings)
        self._preferred: EndpointConnections | None = self._endpoints[0]

    def apply(self, settings: Settings) -> None:
        """Use these settings from now on; requests in flight end under the old ones.

        Raises:
            TlsError: a PEM text in them cannot be used, and nothing has changed.
        """
        before = self.settings
        if settings.endpoints != before.endpoints or tls_settings(settings) != tls_settings(before):
            fresh = self._make_endpoints(settings)
            self._retire_all()
            self._endpoints = fresh
            self._preferred = fresh[0]
        self.settings = settings

    def submit(self, request: OutgoingRequest, receiver: AnswerReceiver) -> Exchange:
        """Send a request; its receiver is told the rest.

        Whether it is already sent on return shows in the exchange's `connection`; if it is not, the
        receiver's `request_sent` follows.
        """
        exchange = Exchange(request, receiver)
        connection = self._take_idle() if request.idempotent else None
        if connection is not None:
            connection.send(exchange)
        else:
            self._connect(exchange)
        return exchange

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long, and try again what has failed.

        ``now`` is in the event loop's time.
        """
        oldest_allowed = now - self.settings.upstream_idle_timeout
        interval = self.settings.endpoint_retry_interval
        for each in self._endpoints:
            each.sweep(oldest_allowed)
            if is_due(each.health, now=now):
                each.health = tried(each.health, now=now, retry_interval=interval)
                self._start(self._try_again(each))

    def close(self) -> None:
        """Close idle connections and stop making new ones."""
        self._retire_all()
        for task in self._tasks:
            task.cancel()

    @property
    def idle_count(self) -> int:
        """How many connections wait for their next request."""
        return sum(each.idle_count for each in self._endpoints)

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how the endpoints are, in their order."""
        epoch = time.time() - self.now()
        return tuple(
            EndpointHealth(
                str(each.endpoint),
                each.health.healthy,
                each.health.since + epoch,
                each.health.last_error,
            )
            for each in self._endpoints
        )

    def exchange_broken(
        self, by: EndpointConnections, exchange: Exchange, *, answered: bool, cause: str
    ) -> None:
        """Send an exchange's request once more, or tell its receiver that it failed."""
        # One that broke on a kept connection never had a task to connect.
        fresh = exchange.connecting is not None
        if answered or fresh:
            self.endpoint_failed(by, cause)
        if exchange.receiver is None:
            return
        if not answered and exchange.request.idempotent and not exchange.retried:
            exchange.retried = fresh
            self._connect(exchange)
        else:
            exchange.receiver.exchange_failed(Failure.BAD_ANSWER)

    def endpoint_failed(self, which: EndpointConnections, cause: str) -> None:
        """Note that an endpoint took a request and did not answer it as it should."""
        self._failed(which, cause, connected=True)

    def _make_endpoints(self, settings: Settings) -> tuple[EndpointConnections, ...]:
        secure = any(endpoint.scheme == "https" for endpoint in settings.endpoints)
        context = tls_context(settings) if secure else None
        return tuple(
            EndpointConnections(
                self,
                endpoint,
                context if endpoint.scheme == "https" else None,
                now=self.now(),
            )
            for endpoint in settings.endpoints
        )

    def _retire_all(self) -> None:
        for each in self._endpoints:
            each.retire()

    def _take_idle(self) -> UpstreamConnection | None:
        if self._preferred is not None:
            return self._preferred.take_idle()
        # No endpoint accepts connections, but one that was made before may still be good.
        for each in self._endpoints:
            connection = each.take_idle()
            if connection is not None:
                return connection
        return None

    # Making connections.

    def _connect(self, exchange: Exchange) -> None:
        exchange.connecting = task = self._start(self._send_on_new(exchange))
        task.add_done_callback(lambda task: _report_to(exchange, task))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send_on_new(self, exchange: Exchange) -> None:
        give_up_at = self.now() + self.settings.unavailable_timeout
        connection = await self._open_first()
        while connection is None and (left := give_up_at - self.now()) > 0:
            await asyncio.wait({self._next_trial()}, timeout=left)
            if self._preferred is not None:
                connection = await self._open_first()
        receiver = exchange.receiver
        if receiver is None:
            if connection is not None:
                connection.abort()
        elif connection is None:
            receiver.exchange_failed(Failure.NO_ENDPOINT)
        else:
            connection.send(exchange)
            receiver.request_sent()

    def _next_trial(self) -> asyncio.Task[None]:
        """The one trial of all endpoints that all requests wait for that found none."""
        if self._trial is None or self._trial.done():
            self._trial = self._start(self._try_all())
        return self._trial

    async def _try_all(self) -> None:
        await asyncio.sleep(_PAUSE_BETWEEN_TRIALS)
        for each in self._endpoints:
            if self._preferred is None:
                await self._try_again(each)

    async def _open_first(self) -> UpstreamConnection | None:
        endpoints = self._endpoints
        for index in trial_order([each.health for each in endpoints]):
            each = endpoints[index]
            try:
                connection = await each.open(self.settings)
            except OSError as error:
                self._failed(each, _reason(error), connected=False)
            else:
                self._accepted(each)
                return connection
        return None

    async def _try_again(self, each: EndpointConnections) -> None:
        try:
            connection = await each.open(self.settings)
        except OSError as error:
            self._failed(each, _reason(error), connected=False)
        else:
            self._accepted(each, on_trial=True)
            each.connection_free(connection)

    # The endpoints' health.

    def _accepted(self, each: EndpointConnections, *, on_trial: bool = False) -> None:
        self._set_health(each, accepted(each.health, now=self.now(), on_trial=on_trial))

    def _failed(self, each: EndpointConnections, error: str, *, connected: bool) -> None:
        interval = self.settings.endpoint_retry_interval
        self._set_health(
            each,
            failed(
                each.health, error, now=self.now(), retry_interval=interval, connected=connected
            ),
        )

    def _set_health(self, each: EndpointConnections, health: Health) -> None:
        before, each.health = each.health, health
        if each.retired:
            return
        # Once per change and not once per request: guests decide how many those are.
        if health.healthy and not before.healthy:
            _log.info("Nova metadata endpoint %s: accepts connections again", each.endpoint)
        elif not health.healthy and (before.healthy or before.last_error != health.last_error):
            _log.warning("Nova metadata endpoint %s: %s", each.endpoint, health.last_error)
        self._preferred = next((one for one in self._endpoints if one.health.healthy), None)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return "connecting timed out" if isinstance(error, TimeoutError) else str(error)


def _report_to(exchange: Exchange, task: asyncio.Task[None]) -> None:
    """Fail an exchange whose connecting ended in a way nobody has thought of."""
    if task.cancelled() or task.exception() is None:
        return
    _log.error("connecting to Nova failed in an unforeseen way", exc_info=task.exception())
    if exchange.receiver is not None:
        exchange.receiver.exchange_failed(Failure.NO_ENDPOINT)
