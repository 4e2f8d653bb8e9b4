"""One connection to Nova, and the requests that go over it.

All of it runs on the event loop's thread. A connection lives as long as Nova and the pool keep it;
a request lives until its response is complete, has failed, or is abandoned.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Protocol, TypeAlias, cast

from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.request import OutgoingRequest
from ovs_metadata.proxy.http.response import BadResponseError, ResponsePart
from ovs_metadata.proxy.http.response_parser import ResponseParser
from ovs_metadata.proxy.nova.endpoint import Endpoint


class ResponseReceiver(Protocol):
    """The sender of a request. It gets the result, but never within `submit`."""

    def request_sent(self) -> None:
        """The request is sent, on a connection that had to be made first."""

    def response_received(self, part: ResponsePart) -> None:
        """A part of the response is here."""

    def request_failed(self, error: ProxyError) -> None:
        """No response comes, or no more of it."""


Broken: TypeAlias = Callable[["UpstreamRequest", Endpoint, bool, str], None]
"""Called with a request, the endpoint whose connection failed it, whether a byte of the response
had arrived, and the cause."""


class UpstreamRequest:
    """A request to Nova, from `submit` to the end of its response: the sender's handle."""

    __slots__ = ("broken", "connecting", "connection", "outgoing", "receiver", "retried")

    def __init__(
        self, outgoing: OutgoingRequest, receiver: ResponseReceiver, broken: Broken
    ) -> None:
        self.outgoing = outgoing
        self.broken = broken
        self.receiver: ResponseReceiver | None = receiver
        self.connection: UpstreamConnection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.retried = False

    def abandon(self) -> None:
        """Give up: close the connection to Nova, and call the receiver no more."""
        self.receiver = None
        if self.connecting is not None:
            self.connecting.cancel()
        if self.connection is not None:
            self.connection.abort()

    def pause(self) -> None:
        """Pause reading the response."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        """Go on reading the answer."""
        if self.connection is not None:
            self.connection.resume()


class UpstreamConnection(asyncio.Protocol):
    """A connection to one of Nova's endpoints, serving one request at a time."""

    __slots__ = (
        "_ended",
        "_forget",
        "_keep",
        "_parser",
        "_persistent",
        "_poller",
        "_request",
        "_transport",
        "endpoint",
        "idle_since",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        keep: "Callable[[UpstreamConnection], None]",
        forget: "Callable[[UpstreamConnection], None]",
        max_head: int,
        max_headers: int,
    ) -> None:
        """Make it.

        Args:
            endpoint: where it leads.
            keep: called when a response is complete and the connection is fit for another request.
            forget: called when the connection is closed.
            max_head: bytes of a response's head.
            max_headers: fields of a response's head.
        """
        self.endpoint = endpoint
        self._keep = keep
        self._forget = forget
        self.idle_since = 0.0
        self._parser = ResponseParser(max_head=max_head, max_headers=max_headers)
        self._transport: asyncio.Transport | None = None
        self._request: UpstreamRequest | None = None
        self._persistent = False
        self._ended = False  # by Nova: over TLS, by TLS as well as by TCP
        self._poller = select.poll()

    @property
    def usable(self) -> bool:
        """Whether a request may be sent on it.

        A poll of the socket finds input that the event loop has not read yet: the end of the
        connection, or unsolicited bytes.
        """
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and self._request is None
            and not self._poller.poll(0)
        )

    def send(self, request: UpstreamRequest) -> None:
        """Send a request; only on a usable connection."""
        transport = self._transport
        if transport is None:
            raise RuntimeError("send() on a connection that is not open")
        self._request = request
        request.connection = self
        outgoing = request.outgoing
        self._parser.expect(head_only=outgoing.head_only)
        transport.write(b"".join((outgoing.start, self.endpoint.host_line, outgoing.rest)))

    def abort(self) -> None:
        """Close at once; drop the request in progress."""
        self._request = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Pause reading."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Resume reading."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the open transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._poller.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Parse a part of the response, and pass it on."""
        request = self._request
        if request is None:
            # Unsolicited bytes: no later request may get them.
            self.abort()
            return
        try:
            part = self._parser.feed(data)
        except BadResponseError as error:
            self._break(str(error))
            return
        if part.head is not None:
            self._persistent = part.head.persistent
        if part.complete:
            self._request = None
            request.connection = None
            self._release()
        elif part.head is None and not part.body:
            # Bytes of a head or a trailer must not renew the receiver's deadline for ever.
            return
        if request.receiver is not None:
            request.receiver.response_received(part)

    def eof_received(self) -> None:
        """Note Nova's end of input; the transport closes itself, and `connection_lost` follows.

        Over TLS the event loop calls this for a close_notify, but not for the end of TCP alone,
        which an attacker on the path can forge (RFC 9112, section 9.8).
        """
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request in progress, if there is one: as complete or as broken."""
        request = self._request
        self._forget(self)
        if request is not None and exc is None and self._ended and self._parser.finish():
            self._request = None
            request.connection = None
            if request.receiver is not None:
                request.receiver.response_received(ResponsePart(None, b"", complete=True))
        elif request is not None:
            self._break("the connection ended before the response did")
        self._parser.close()
        self._transport = None

    def _release(self) -> None:
        transport = self._transport
        if (
            transport is not None
            and self._persistent
            and not self._parser.unsolicited
            # After a response that came before the whole request was sent, the rest is unread.
            and transport.get_write_buffer_size() == 0
        ):
            self._keep(self)
        else:
            self.abort()

    def _break(self, cause: str) -> None:
        request = self._request
        self.abort()
        if request is not None:
            request.connection = None
            request.broken(request, self.endpoint, self._parser.started, cause)
