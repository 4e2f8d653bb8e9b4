"""A guest's request as a value: which requests are refused, and the request that Nova gets.

Pure functions, no I/O. llhttp in its strict mode has already refused malformed heads: bare CR or
LF, folded lines, NUL and control characters, bad tokens, several or unreadable Content-Lengths,
Content-Length together with Transfer-Encoding. This module has all other checks.
"""

from typing import NamedTuple

from ovs_metadata.proxy.control.identity import Identity
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.headers import (
    NO_GUARD_HEADERS,
    GuardHeaders,
    HeaderList,
    is_chunked,
    is_persistent,
    sort_request_headers,
)

# Methods of requests that may be sent a second time (RFC 9110, section 9.2.2).
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
"""All methods that the proxy forwards. CONNECT would make it a tunnel, TRACE would show the guest
the identity headers, and other methods may change the framing of a response."""

_OWN_PATHS = b"/ovs-metadata/"
"""How the paths begin that the proxy answers by itself."""

_VERSIONS = frozenset({b"1.0", b"1.1"})


class RequestLine(NamedTuple):
    """A well-formed request line."""

    method: bytes
    target: bytes
    version: bytes | None
    """As in ``HTTP/1.1``; None if the line ends with the target."""


class RequestHead(NamedTuple):
    """The head of an acceptable request."""

    method: bytes
    target: bytes
    """In origin form (or ``*``), otherwise exactly as the guest wrote it."""
    header_lines: bytes
    """The guest's header lines that Nova gets, each with its CRLF."""
    http_1_1: bool
    keep_alive: bool
    chunked: bool
    expects_continue: bool
    length: int = 0
    """Bytes of the body, unless it is chunked."""
    host: bytes = b""
    """The value of Host; empty without one."""
    authority: bytes | None = None
    """The authority of a target in absolute form."""
    guards: GuardHeaders = NO_GUARD_HEADERS
    guarded: bool = False
    """Whether an option may matter to this request although every option has its default."""


class Request(NamedTuple):
    """A whole request, with its body."""

    head: RequestHead
    body: bytes


class OutgoingRequest(NamedTuple):
    """A request as Nova gets it, without the Host line, which depends on the endpoint."""

    start: bytes
    """The request line with its CRLF. The endpoint's Host line comes after it."""
    rest: bytes
    """All other header lines, the empty line and the body."""
    head_only: bool
    """Whether the response has no body in spite of its headers (the method is HEAD)."""
    idempotent: bool


def refuse_line(line: RequestLine) -> ProxyError | None:
    """Return the error for a request with this line, or None."""
    if line.version in _VERSIONS:
        return None if line.method in METHODS else ProxyError.METHOD_REFUSED
    if line.version is None and not line.target.startswith(b"/"):
        return ProxyError.MALFORMED  # with a path, it would be HTTP/0.9
    return ProxyError.VERSION_REFUSED


def parse_request_head(
    line: RequestLine, headers: HeaderList, max_body: int
) -> RequestHead | ProxyError:
    """Parse the head of a request whose line is acceptable."""
    method, target, version = line
    http_1_1 = version == b"1.1"
    origin = origin_form(method, target)
    passed, hosts, raw_length, encodings, expectations, connection, host, guards = (
        sort_request_headers(headers)
    )
    if (
        origin is None
        or (hosts != 1 and (http_1_1 or hosts > 1))
        # Servers differ in how they read anything but exactly "chunked".
        or (encodings and not (http_1_1 and is_chunked(encodings)))
        or (encodings and raw_length is not None)
        or not (raw_length is None or raw_length.strip().isdigit())
    ):
        return ProxyError.MALFORMED
    # An HTTP/1.0 client does not know 100-continue: ignore its expectation (RFC 9110, 10.1.1).
    expects_continue = http_1_1 and bool(expectations)
    if expects_continue and [each.strip().lower() for each in expectations] != [b"100-continue"]:
        return ProxyError.EXPECTATION_REFUSED
    # Python reads at most 4300 digits, and there may be any number of zeros.
    length = int((raw_length or b"").strip().lstrip(b"0") or b"0")
    if length > max_body:
        return ProxyError.BODY_TOO_LARGE
    keep_alive = is_persistent(http_1_1, connection)
    guarded = (
        guards is not NO_GUARD_HEADERS or b"/api/token" in origin or origin.startswith(_OWN_PATHS)
    )
    return RequestHead(
        method,
        origin,
        passed,
        http_1_1,
        keep_alive,
        bool(encodings),
        expects_continue,
        length,
        host,
        None if origin is target else _authority(target),
        guards,
        guarded,
    )


def origin_form(method: bytes, target: bytes) -> bytes | None:
    """Return a request target in origin form, or None if it is invalid for this service.

    Path and query keep every byte. ``http://host/path`` becomes the path.
    """
    if b"#" in target:
        return None  # a fragment is never sent (RFC 9112, section 3.2)
    if target.startswith(b"/"):
        return target
    if target == b"*":
        return target if method == b"OPTIONS" else None
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in {b"http", b"https"}:
        return None
    slash, question = rest.find(b"/"), rest.find(b"?")
    ends = [index for index in (slash, question) if index >= 0]
    authority_end = min(ends, default=len(rest))
    if authority_end == 0:
        return None
    path = rest[authority_end:]
    return path if path.startswith(b"/") else b"/" + path


def _authority(target: bytes) -> bytes:
    """Return the authority of a valid target in absolute form, with its user, if it has one."""
    rest = target.partition(b"://")[2]
    return rest.partition(b"/")[0].partition(b"?")[0]


def render_request(request: Request, identity: Identity, request_id: bytes) -> OutgoingRequest:
    """Return the request that Nova gets for a request of ``identity``'s port."""
    head, body = request
    method = head.method
    # Nova's password handler cannot read chunks, so every body has its length.
    length = b"Content-Length: %d\r\n" % len(body) if head.chunked else b""
    own = b"X-OpenStack-Request-ID: %b\r\n\r\n" % request_id
    return OutgoingRequest(
        b"%b %b HTTP/1.1\r\n" % (method, head.target),
        b"".join((head.header_lines, length, identity.header_block, own, body)),
        method == b"HEAD",
        method in _IDEMPOTENT,
    )
