"""One endpoint of Nova: how to connect to it, the kept connections, and its trial.

All of it runs on the event loop's thread. It lives until the settings name other endpoints.
"""

import asyncio
import contextlib
import functools
import math
import random
import socket
import ssl
from collections.abc import Callable, Sequence

from ovs_metadata.certificate_dates import not_after
from ovs_metadata.proxy.accounting.request_id import new_request_id
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.request import OutgoingRequest
from ovs_metadata.proxy.http.response import ResponsePart
from ovs_metadata.proxy.nova.connection import UpstreamConnection, UpstreamRequest
from ovs_metadata.proxy.nova.endpoint import Endpoint, is_address
from ovs_metadata.proxy.nova.health import Health
from ovs_metadata.proxy.nova.race import first_to_succeed

ADDRESS_DELAY = 0.25
"""Seconds until a connection to the next address of a name begins too (RFC 8305, section 5)."""

TRIAL_AGENT = b"ovs-metadata-proxy"
"""The User-Agent of trials, by which Nova's log tells them from guests' requests."""


class EndpointPool:
    """One endpoint with its health and its kept connections."""

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext | None,
        settings: Settings,
        now: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._now = now
        self.endpoint = endpoint
        self._context = context
        self._is_name = not is_address(endpoint.host)
        self._worked = ""  # the address of the last connection
        # Many workers get new endpoints at once; their first probes are spread over a second.
        self.health = Health(since=now(), probe_at=now() + random.random())  # noqa: S311
        self.answered_at = -math.inf
        """When it last answered a request."""
        self.certificate_until: float | None = None
        """When the certificate of its last TLS connection expires, in seconds since the epoch."""
        self.trial: asyncio.Task[None] | None = None
        """The latest trial or probe."""
        self.draining = False
        # In order of use, the latest last: Nova is least likely to have closed that one.
        self._idle: dict[UpstreamConnection, None] = {}

    @property
    def idle_count(self) -> int:
        """The number of idle connections."""
        return len(self._idle)

    def take_idle(self) -> UpstreamConnection | None:
        """Return a usable kept connection, or None."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.usable:
                return connection
            connection.abort()
        return None

    async def open(self) -> UpstreamConnection:
        """Make a connection, with its TLS, to the first address of the host that accepts one.

        Raises:
            OSError: no address accepts one; TimeoutError and TLS errors are included.
        """
        deadline = self._now() + self.settings.connect_timeout
        async with asyncio.timeout_at(deadline) as limit:
            addresses = [self.endpoint.host]
            if self._is_name:
                found = await resolve(self.endpoint.host, self.endpoint.port)
                addresses = connection_order(found, worked=self._worked)
                # The last to begin has as much time as the first.
                limit.reschedule(deadline + ADDRESS_DELAY * (len(addresses) - 1))
            return await first_to_succeed(
                [functools.partial(self._connect, address) for address in addresses],
                delay=ADDRESS_DELAY,
                discard=UpstreamConnection.abort,
            )

    async def _connect(self, address: str) -> UpstreamConnection:
        settings = self.settings
        transport, connection = await asyncio.get_running_loop().create_connection(
            lambda: UpstreamConnection(
                self.endpoint,
                keep=self._keep,
                forget=self._forget,
                max_head=settings.max_head,
                max_headers=settings.max_headers,
            ),
            address,
            self.endpoint.port,
            ssl=self._context,
            server_hostname=self.endpoint.host if self._context else None,
        )
        # The socket of a TLS connection may be readable now, for session tickets.
        if transport.is_closing() if self._context else not connection.usable:
            connection.abort()
            raise ConnectionResetError("it closed a connection at once, or sent unsolicited data")
        self._worked = address
        if self._context:
            self._note_certificate(transport)
        return connection

    def _note_certificate(self, transport: asyncio.BaseTransport) -> None:
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        with contextlib.suppress(ValueError):
            self.certificate_until = not_after(shown)

    async def try_out(self) -> None:
        """Hold a trial: request a page that Nova shows without an identity. Any response passes.

        The connection may take `connect_timeout`, and the response as long again.

        Raises:
            OSError: no connection, or no valid response.
        """
        connection = await self.open()
        trial = _Trial()
        request = UpstreamRequest(_trial_request(), trial, trial.broken)
        connection.send(request)
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                await trial.answered
        except TimeoutError:
            raise TimeoutError("it did not answer in time") from None
        finally:
            request.abandon()  # after the response, this does nothing

    def sweep(self, oldest_allowed: float) -> None:
        """Close the connections that are idle since before that time of the event loop."""
        for connection in list(self._idle):
            if connection.idle_since > oldest_allowed:
                return
            del self._idle[connection]
            connection.abort()

    def drain(self) -> None:
        """Close the idle connections, and keep none from now on."""
        self.draining = True
        while self._idle:
            connection, _ = self._idle.popitem()
            connection.abort()

    def _keep(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request, if there is room."""
        self.answered_at = self._now()
        if not self.draining and len(self._idle) < self.settings.upstream_max_idle:
            connection.idle_since = self.answered_at
            self._idle[connection] = None
        else:
            connection.abort()

    def _forget(self, connection: UpstreamConnection) -> None:
        self._idle.pop(connection, None)


class _Trial:
    """The receiver of a trial's response."""

    def __init__(self) -> None:
        self.answered = asyncio.get_running_loop().create_future()
        """Done with the end of the response; fails with the fault."""

    def request_sent(self) -> None:
        """Do nothing."""

    def response_received(self, part: ResponsePart) -> None:
        """Note the end of the response."""
        if part.complete and not self.answered.done():
            self.answered.set_result(None)

    def request_failed(self, error: ProxyError) -> None:
        """Do nothing: the pool is not involved."""

    def broken(
        self, _request: UpstreamRequest, _endpoint: Endpoint, _answered: bool, cause: str
    ) -> None:
        """Note the fault."""
        if not self.answered.done():
            self.answered.set_exception(ConnectionError(cause))


def _trial_request() -> OutgoingRequest:
    rest = b"User-Agent: %b\r\nX-OpenStack-Request-ID: %b\r\n\r\n"
    return OutgoingRequest(
        b"GET / HTTP/1.1\r\n", rest % (TRIAL_AGENT, new_request_id()), False, True
    )


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host name, the preferred ones first.

    Raises:
        OSError: it has none, or no name server responds.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


def connection_order(addresses: Sequence[str], *, worked: str) -> list[str]:
    """Return each address once, in the order to try them.

    The address that worked comes first, if it is still there; the families alternate (RFC 8305,
    section 4).
    """
    unique = list(dict.fromkeys(addresses))
    position = {}
    for family in (True, False):
        members = [address for address in unique if (":" in address) == family]
        position.update({address: number for number, address in enumerate(members)})
    return sorted(unique, key=lambda address: (address != worked, position[address]))
