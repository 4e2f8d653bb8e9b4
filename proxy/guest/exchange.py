"""One request of a guest and what became of it: a record, from its arrival to its report.

Belongs to the connection it came by, and to the event loop's thread.
"""

from time import monotonic

from ovs_metadata.proxy.accounting.observer import Observer
from ovs_metadata.proxy.accounting.request_id import new_request_id
from ovs_metadata.proxy.control.identity import Identity
from ovs_metadata.proxy.http.request import Request
from ovs_metadata.proxy.http.response import ResponseEncoder, ResponsePart
from ovs_metadata.proxy.nova.connection import UpstreamRequest

_SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})


class Exchange:
    """A whole request that is being served."""

    __slots__ = (
        "encoder",
        "first_byte",
        "held",
        "identity",
        "relayed",
        "request",
        "request_id",
        "sent",
        "started",
        "ticket",
        "upstream",
    )

    def __init__(self, request: Request) -> None:
        self.request = request
        self.ticket = 0
        """Of the confirmation that its response waits for; see `proxy.control.confirmation`."""
        self.held: list[ResponsePart] = []
        """What has come of the response before the confirmation."""
        self.request_id = new_request_id()
        self.started = monotonic()
        self.identity: Identity | None = None
        """On whose behalf Nova was asked."""
        self.relayed = 0.0
        """When it was."""
        self.upstream: UpstreamRequest | None = None
        self.encoder: ResponseEncoder | None = None
        self.sent = 0
        """Bytes of the response handed to the guest's connection."""
        self.first_byte = 0.0
        """When the first of them was; 0 if none was."""

    @property
    def is_safe(self) -> bool:
        """Whether the request asks for no change (RFC 9110, section 9.2.1)."""
        return self.request.head.method in _SAFE_METHODS

    @property
    def status(self) -> int:
        """The status the guest has been sent; 0 as long as it was sent nothing."""
        return 0 if self.encoder is None else self.encoder.status

    def report(
        self, observer: Observer, address: str, port_id: str, status: int, cause: str | None
    ) -> None:
        """Have it counted and logged, now that it is over; see `Observer.request_done`."""
        head = self.request.head
        observer.request_done(
            address,
            port_id,
            "" if self.identity is None else self.identity.instance_id,
            head.method,
            head.target,
            status,
            cause,
            self.sent,
            self.started,
            self.first_byte,
            monotonic(),
            self.request_id,
        )
