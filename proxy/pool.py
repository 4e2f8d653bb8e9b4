"""The connections to Nova: made in the order of the endpoints, kept, used again.

All of it runs on the event loop's thread. The pool lives as long as the worker.

A kept connection may be closed by Nova at the very moment it is used again. Such a request is sent
once more on a fresh connection if no byte of an answer came and its method is idempotent; other
requests always get a fresh connection, so that the question does not arise.
"""

import asyncio
import logging
import ssl

from ovs_metadata.proxy.endpoint import Endpoint, tls_context
from ovs_metadata.proxy.errors import Failure
from ovs_metadata.proxy.request import OutgoingRequest
from ovs_metadata.proxy.settings import Settings
from ovs_metadata.proxy.upstream import AnswerReceiver, Exchange, UpstreamConnection

_log = logging.getLogger(__name__)


class UpstreamPool:
    """Sends requests to Nova. `sweep` must be called from time to time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._generation = 0
        self._contexts: dict[Endpoint, ssl.SSLContext | None] = {}
        # In order of use, the latest last: it is the least likely to have been closed by Nova.
        self._idle: dict[UpstreamConnection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._complaints: dict[str, str] = {}
        self._make_contexts()

    def apply(self, settings: Settings) -> None:
        """Use these settings from now on; requests in flight end under the old ones."""
        if settings.endpoints != self._settings.endpoints:
            self._generation += 1
            self._close_idle()
        self._settings = settings
        self._make_contexts()

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
        """Close what has been idle for too long; ``now`` is in the event loop's time."""
        oldest_allowed = now - self._settings.upstream_idle_timeout
        for connection in list(self._idle):
            if connection.idle_since > oldest_allowed:
                return
            del self._idle[connection]
            connection.abort()

    def close(self) -> None:
        """Close idle connections and stop making new ones."""
        self._generation += 1
        self._close_idle()
        for task in self._tasks:
            task.cancel()

    @property
    def idle_count(self) -> int:
        """How many connections wait for their next request."""
        return len(self._idle)

    # Called by connections.

    def connection_free(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose answer is complete, if there is room."""
        if (
            connection.generation == self._generation
            and len(self._idle) < self._settings.upstream_max_idle
        ):
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle[connection] = None
        else:
            connection.abort()

    def connection_gone(self, connection: UpstreamConnection) -> None:
        """Forget a connection that is closed."""
        self._idle.pop(connection, None)

    def exchange_broken(self, exchange: Exchange, *, answered: bool, cause: str) -> None:
        """Send an exchange's request once more, or tell its receiver that it failed."""
        if exchange.receiver is None:
            return
        if not answered and exchange.request.idempotent and not exchange.retried:
            exchange.retried = True
            self._connect(exchange)
            return
        self._complain("answers", f"an answer of the Nova metadata API is not usable: {cause}")
        exchange.receiver.exchange_failed(Failure.BAD_ANSWER)

    def _take_idle(self) -> UpstreamConnection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.usable:
                return connection
        return None

    def _close_idle(self) -> None:
        while self._idle:
            connection, _ = self._idle.popitem()
            connection.abort()

    def _make_contexts(self) -> None:
        self._contexts = {endpoint: tls_context(endpoint) for endpoint in self._settings.endpoints}

    def _connect(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._send_on_new(exchange))
        exchange.connecting = task
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._connected(task, exchange))

    def _connected(self, task: asyncio.Task[None], exchange: Exchange) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        _log.error("connecting to Nova failed in an unforeseen way", exc_info=task.exception())
        if exchange.receiver is not None:
            exchange.receiver.exchange_failed(Failure.NO_ENDPOINT)

    async def _send_on_new(self, exchange: Exchange) -> None:
        connection = await self._open_first()
        exchange.connecting = None
        receiver = exchange.receiver
        if receiver is None:
            if connection is not None:
                connection.abort()
        elif connection is None:
            receiver.exchange_failed(Failure.NO_ENDPOINT)
        elif not connection.usable:
            # Accepted and closed in one go: the same as a kept connection that was closed.
            self.exchange_broken(exchange, answered=False, cause="the connection was closed")
        else:
            connection.send(exchange)
            receiver.request_sent()

    async def _open_first(self) -> UpstreamConnection | None:
        for endpoint, context in list(self._contexts.items()):
            try:
                async with asyncio.timeout(self._settings.connect_timeout):
                    connection = await self._open(endpoint, context)
            except OSError as error:  # TimeoutError and TLS errors included
                reason = "timed out" if isinstance(error, TimeoutError) else error
                self._complain(str(endpoint), f"Nova metadata endpoint {endpoint}: {reason}")
            else:
                if self._complaints.pop(str(endpoint), None):
                    _log.info("Nova metadata endpoint %s: accepts connections again", endpoint)
                return connection
        return None

    def _complain(self, about: str, complaint: str) -> None:
        """Log what is wrong once, not once per request: guests decide how many those are."""
        if self._complaints.get(about) != complaint:
            self._complaints[about] = complaint
            _log.warning("%s", complaint)

    async def _open(self, endpoint: Endpoint, context: ssl.SSLContext | None) -> UpstreamConnection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: UpstreamConnection(
                self,
                endpoint,
                max_head=self._settings.max_head,
                generation=self._generation,
            ),
            endpoint.host,
            endpoint.port,
            ssl=context,
        )
        return connection
