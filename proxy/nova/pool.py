"""The requests to Nova: to the first healthy endpoint, over kept connections.

All of it runs on the event loop's thread. The pool lives as long as the worker.

When the pool sends a request again:

- A request that found no connection was not sent, so the pool tries the next endpoint, whatever the
  method. The request fails when no endpoint has accepted a connection for a while.
- If a connection breaks before any byte of the response, the pool sends an idempotent request again
  on a fresh connection. If the broken connection was fresh, it does so once, and prefers another
  healthy endpoint.
- Requests with other methods always get a fresh connection: Nova may close a kept connection at the
  moment of its use.
- After a byte of the response has arrived, the pool sends nothing again.

A connection that sends unsolicited data is closed at once. Before each use, a poll of the socket
finds data that the event loop has not read yet.
"""

import asyncio
import contextlib
import functools
import logging
import random
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.request import OutgoingRequest
from ovs_metadata.proxy.nova.connection import ResponseReceiver, UpstreamConnection, UpstreamRequest
from ovs_metadata.proxy.nova.endpoint import Endpoint
from ovs_metadata.proxy.nova.endpoint_pool import EndpointPool
from ovs_metadata.proxy.nova.health import (
    EndpointHealth,
    Health,
    doubted,
    failed,
    is_due,
    is_probe_due,
    passed,
    reached,
    trial_order,
    tried,
)
from ovs_metadata.proxy.nova.race import first_to_succeed
from ovs_metadata.proxy.nova.tls import tls_context, tls_settings

_log = logging.getLogger(__name__)

_PAUSE_BETWEEN_TRIALS = 0.25
"""Seconds between two trials while requests wait for an endpoint."""
_ENDPOINT_DELAY = 1.0
"""Seconds until a request without a connection tries the next endpoint too: TCP sends its first
packet again after the same time."""


class UpstreamPool:
    """Sends requests to Nova. `sweep` must be called often.

    Args:
        settings: the endpoints, and how to ask them.
        now: returns the event loop's time; by default, the running loop's.

    Raises:
        TlsError: a PEM text in the settings is unusable.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] | None = None) -> None:
        self.now = now or asyncio.get_running_loop().time
        """The event loop's time."""
        self.settings = settings
        self._tasks: set[asyncio.Task[None]] = set()
        self._round: asyncio.Task[None] | None = None
        self._endpoints = self._make_endpoints(settings)
        self._preferred: EndpointPool | None = self._endpoints[0]

    def apply(self, settings: Settings) -> None:
        """Use these settings from now on; requests in flight keep the old ones.

        Raises:
            TlsError: a PEM text in them is unusable; the old settings stay.
        """
        before = self.settings
        if settings.endpoints != before.endpoints or tls_settings(settings) != tls_settings(before):
            fresh = self._make_endpoints(settings)
            self._drain_all()
            self._endpoints = fresh
            self._preferred = fresh[0]
        self.settings = settings
        for each in self._endpoints:
            each.settings = settings

    def submit(self, outgoing: OutgoingRequest, receiver: ResponseReceiver) -> UpstreamRequest:
        """Send a request; calls of its receiver follow.

        If the request has a `connection` on return, it is sent. If not, `request_sent` follows.
        """
        request = UpstreamRequest(outgoing, receiver, self._broken)
        connection = self._take_idle() if outgoing.idempotent else None
        if connection is not None:
            connection.send(request)
        else:
            self._connect(request)
        return request

    def sweep(self, now: float) -> None:
        """Close connections that are idle for too long; hold the trials and probes that are due.

        ``now`` is in the event loop's time.
        """
        oldest_allowed = now - self.settings.upstream_idle_timeout
        for each in self._endpoints:
            each.sweep(oldest_allowed)
            self._try_if_due(each)

    def close(self) -> None:
        """Close idle connections and stop making new ones."""
        self._drain_all()
        for task in self._tasks:
            task.cancel()

    @property
    def idle_count(self) -> int:
        """The number of idle connections."""
        return sum(each.idle_count for each in self._endpoints)

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return the health of the endpoints, in their order."""
        epoch = time.time() - self.now()
        return tuple(
            EndpointHealth(
                str(each.endpoint),
                each.health.healthy if each.health.known else None,
                each.health.since + epoch,
                each.health.last_error,
                each.certificate_until,
            )
            for each in self._endpoints
        )

    def timed_out(self, request: UpstreamRequest) -> None:
        """Doubt the endpoint of a request whose response, or its next part, is overdue."""
        if request.connection is not None:
            self._doubt(self._pool_of(request.connection.endpoint))

    def _broken(
        self, request: UpstreamRequest, endpoint: Endpoint, answered: bool, _cause: str
    ) -> None:
        """Send a request once more, or report to its receiver that it failed."""
        by = self._pool_of(endpoint)
        # A request on a kept connection never had a task to connect.
        fresh = request.connecting is not None
        if answered or fresh:
            self._doubt(by)
        if request.receiver is None:
            return
        if not answered and request.outgoing.idempotent and not request.retried:
            request.retried = fresh
            self._connect(request, avoid=by if fresh else None)
        else:
            request.receiver.request_failed(ProxyError.BAD_ANSWER)

    def _pool_of(self, endpoint: Endpoint) -> EndpointPool | None:
        """Return the pool of an endpoint, or None if the settings have changed."""
        return next((each for each in self._endpoints if each.endpoint is endpoint), None)

    def _doubt(self, which: EndpointPool | None) -> None:
        """Hold a trial of an endpoint, unless the last one was a moment ago."""
        if which is not None:
            interval = self.settings.endpoint_retry_interval
            which.health = doubted(which.health, now=self.now(), retry_interval=interval)
            self._try_if_due(which)

    def _make_endpoints(self, settings: Settings) -> tuple[EndpointPool, ...]:
        secure = any(endpoint.scheme == "https" for endpoint in settings.endpoints)
        context = tls_context(settings) if secure else None
        return tuple(
            EndpointPool(
                endpoint, context if endpoint.scheme == "https" else None, settings, self.now
            )
            for endpoint in settings.endpoints
        )

    def _drain_all(self) -> None:
        for each in self._endpoints:
            each.drain()

    def _take_idle(self) -> UpstreamConnection | None:
        if self._preferred is not None:
            return self._preferred.take_idle()
        # No endpoint accepts connections, but a kept one may still be usable.
        for each in self._endpoints:
            connection = each.take_idle()
            if connection is not None:
                return connection
        return None

    # Making connections.

    def _connect(self, request: UpstreamRequest, *, avoid: EndpointPool | None = None) -> None:
        request.connecting = task = self._start(self._send_on_new(request, avoid))
        task.add_done_callback(lambda task: _report_to(request, task))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send_on_new(self, request: UpstreamRequest, avoid: EndpointPool | None) -> None:
        give_up_at = self.now() + self.settings.unavailable_timeout
        connection = await self._open_first(avoid)
        while connection is None and (left := give_up_at - self.now()) > 0:
            await asyncio.wait({self._next_round()}, timeout=left)
            if self._preferred is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(give_up_at):
                        connection = await self._open_first(avoid)
        receiver = request.receiver
        if receiver is None:
            if connection is not None:
                connection.abort()
        elif connection is None:
            receiver.request_failed(ProxyError.NO_ENDPOINT)
        else:
            connection.send(request)
            receiver.request_sent()

    async def _open_first(self, avoid: EndpointPool | None) -> UpstreamConnection | None:
        """Connect to the first endpoint that accepts; if none is healthy, try all at once."""
        endpoints = self._endpoints
        last = endpoints.index(avoid) if avoid in endpoints else None
        order = trial_order([each.health for each in endpoints], last=last)
        try:
            return await first_to_succeed(
                [functools.partial(self._open, endpoints[index]) for index in order],
                delay=_ENDPOINT_DELAY if self._preferred is not None else 0.0,
                discard=UpstreamConnection.abort,
            )
        except OSError:
            return None

    async def _open(self, each: EndpointPool) -> UpstreamConnection:
        begun = self.now()
        try:
            connection = await each.open()
        except OSError as error:
            self._failed(each, error)
            raise
        except asyncio.CancelledError:
            # Another endpoint was quicker, or the guest has left. A trial has the time it needs.
            if self.now() >= begun + _ENDPOINT_DELAY:
                self._doubt(each)
            raise
        each.health = reached(each.health, now=self.now(), chance=_chance())
        return connection

    # Trials and probes.

    def _next_round(self) -> asyncio.Task[None]:
        """Return the one round of trials that all requests without an endpoint wait for."""
        if self._round is None or self._round.done():
            self._round = self._start(self._try_all())
        return self._round

    async def _try_all(self) -> None:
        await asyncio.sleep(_PAUSE_BETWEEN_TRIALS)
        trials = {self._try(each) for each in self._endpoints}
        await asyncio.wait(trials, return_when=asyncio.FIRST_COMPLETED)

    def _try_if_due(self, each: EndpointPool) -> None:
        now = self.now()
        if is_due(each.health, now=now):
            self._try(each)
        elif is_probe_due(each.health, now=now, answered_at=each.answered_at):
            self._probe(each)

    def _try(self, each: EndpointPool) -> asyncio.Task[None]:
        """Hold a trial of an endpoint, unless one is running."""
        if each.trial is None or each.trial.done():
            each.health = tried(each.health, now=self.now())
            each.trial = self._start(self._judge(each))
        return each.trial

    def _probe(self, each: EndpointPool) -> None:
        """Make a connection to an endpoint and close it, unless a trial is running."""
        if each.trial is None or each.trial.done():
            each.trial = self._start(self._connect_once(each))

    async def _connect_once(self, each: EndpointPool) -> None:
        with contextlib.suppress(OSError):
            connection = await self._open(each)
            connection.abort()

    async def _judge(self, each: EndpointPool) -> None:
        try:
            await each.try_out()
        except OSError as error:
            self._failed(each, error)
        else:
            self._set_health(each, passed(each.health, now=self.now()))

    def _failed(self, each: EndpointPool, error: OSError) -> None:
        interval = self.settings.endpoint_retry_interval
        now = self.now()
        self._set_health(
            each, failed(each.health, _reason(error), now=now, retry_interval=interval)
        )

    def _set_health(self, each: EndpointPool, health: Health) -> None:
        before, each.health = each.health, health
        if each.draining:
            return
        # Once a change and not once a request: guests decide the number of requests.
        if health.healthy and not before.healthy:
            _log.info("Nova metadata endpoint %s: answers again", each.endpoint)
        elif not health.healthy and (before.healthy or before.last_error != health.last_error):
            _log.warning("Nova metadata endpoint %s: %s", each.endpoint, health.last_error)
        self._preferred = next((one for one in self._endpoints if one.health.healthy), None)


def _chance() -> float:
    return random.random()  # noqa: S311 - no secret depends on it


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return str(error) or "connecting timed out"


def _report_to(request: UpstreamRequest, task: asyncio.Task[None]) -> None:
    """Fail a request whose task to connect ended by an unexpected exception."""
    if task.cancelled() or task.exception() is None:
        return
    _log.error("unexpected error while connecting to Nova", exc_info=task.exception())
    if request.receiver is not None:
        request.receiver.request_failed(ProxyError.NO_ENDPOINT)
