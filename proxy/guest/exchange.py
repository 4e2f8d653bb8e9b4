"""One request of a guest and its response: a record, from the request's arrival to its report.

Belongs to the connection it came by, and to the event loop's thread.
"""

from time import monotonic

from ovs_metadata.proxy.accounting.request_id import new_request_id
from ovs_metadata.proxy.control.identity import Identity
from ovs_metadata.proxy.http.request import Request
from ovs_metadata.proxy.http.response import ResponseEncoder, ResponsePart
from ovs_metadata.proxy.nova.connection import UpstreamRequest

SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that ask for no change (RFC 9110, section 9.2.1)."""


class Exchange:
    """A whole request that the connection serves."""

    __slots__ = (
        "encoder",
        "first_byte",
        "forwarded",
        "held",
        "identity",
        "request",
        "request_id",
        "sent",
        "started",
        "ticket",
        "upstream",
    )

    def __init__(self, request: Request) -> None:
        self.request = request
        self.request_id = new_request_id()
        self.started = monotonic()
        self.ticket = 0
        """The number of the confirmation that the response waits for; see
        `proxy.control.confirmation`."""
        self.identity: Identity | None = None
        """The identity that Nova was asked with."""
        self.forwarded = 0.0
        """When Nova was asked."""
        self.upstream: UpstreamRequest | None = None
        self.held: list[ResponsePart] = []
        """The parts of the response that came before the confirmation."""
        self.encoder = ResponseEncoder(request.head.http_1_1, request.head.keep_alive)
        self.sent = 0
        """Bytes of the response written to the guest's transport."""
        self.first_byte = 0.0
        """When the first of them was written; 0 if none was."""
