"""Which headers pass through the proxy: the rules, as data, and one pass over a header list.

Pure functions on values; no I/O. Header lists are ``(name, value)`` pairs as the parser gives them:
names as spelled, values without leading blanks.

Towards Nova
  * the identity headers, those of other metadata proxies and those that name a forwarded request's
    origin are dropped in any spelling, because the proxy adds its own;
  * hop-by-hop headers and those named by ``Connection`` are dropped (RFC 9110, section 7.6.1);
  * ``Host`` is dropped, because it names the next hop: a guest must not choose among the virtual
    hosts of a shared endpoint. ``Expect`` is dropped, because the proxy has the body before it
    forwards the request. The headers of session tokens are dropped, because they are for the proxy;
  * everything else passes in its order, spelling and number.

Towards the guest
  * hop-by-hop headers and those named by ``Connection`` are dropped, everything else passes.
"""

from typing import NamedTuple, TypeAlias

HeaderList: TypeAlias = list[tuple[bytes, bytes]]

# WSGI servers turn "-" into "_" in header names, so to them X_Instance_ID is X-Instance-ID.
# Therefore the rules apply to names with both folded, and in lower case.
_FOLD = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&'*+.^_`|~", b"abcdefghijklmnopqrstuvwxyz" + 14 * b"-"
)

# Only the proxy may send headers that begin with one of these.
_IDENTITY_PREFIXES = (
    b"x-instance-id",
    b"x-tenant-id",
    b"x-metadata-provider",
    b"x-neutron-",
    b"x-ovn-",
    b"x-forwarded-",
)
_IDENTITY_NAMES = frozenset({b"forwarded", b"x-real-ip", b"x-openstack-request-id"})

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_TOKEN = b"x-aws-ec2-metadata-token"
_TOKEN_TTL = b"x-aws-ec2-metadata-token-ttl-seconds"

# Headers that HTTP proxies add. Of them only Via passes.
_PROXIED = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"})

# Headers by which metadata options decide about a request.
_GUARDS = _PROXIED | {_TOKEN, _TOKEN_TTL}

# Request headers that this module reads or drops, or both.
_REQUEST_SPECIAL = _HOP_BY_HOP | _IDENTITY_NAMES | _GUARDS | {b"host", b"expect", b"content-length"}

# The usual spellings of headers that pass in both directions, recognised as a whole.
_PLAIN = frozenset(
    spelling
    for name in (
        b"Accept",
        b"Accept-Encoding",
        b"Accept-Language",
        b"Content-Type",
        b"Date",
        b"Metadata",
        b"Server",
        b"User-Agent",
        b"Vary",
        b"X-Compute-Request-Id",
    )
    for spelling in (name, name.lower())
)

_NO_OPTIONS: frozenset[bytes] = frozenset()
_ORDINARY_OPTIONS = frozenset({b"close", b"keep-alive"})


class GuardHeaders(NamedTuple):
    """The headers by which metadata options decide about a request (`proxy.guest.guards`)."""

    tokens: tuple[bytes, ...] = ()
    """The values of X-aws-ec2-metadata-token."""
    ttls: tuple[bytes, ...] = ()
    """The values of X-aws-ec2-metadata-token-ttl-seconds."""
    proxied: bool = False
    """Whether there is a header that HTTP proxies add, in any spelling."""


NO_GUARD_HEADERS = GuardHeaders()


class RequestHeaders(NamedTuple):
    """A request's headers, sorted into those that pass and those that the proxy acts on."""

    passed: bytes
    """The header lines for Nova, each with its CRLF, without identity and Host."""
    hosts: int
    content_length: bytes | None
    transfer_encodings: list[bytes]
    expectations: list[bytes]
    connection: frozenset[bytes]
    """The options of the Connection headers, in lower case."""
    host: bytes
    """The value of the last Host."""
    guards: GuardHeaders


def sort_request_headers(headers: HeaderList) -> RequestHeaders:
    """Apply the rules for headers on their way from a guest to Nova."""
    passed: list[bytes] = []
    hosts = 0
    content_length = None
    transfer_encodings: list[bytes] = []
    expectations: list[bytes] = []
    connection = _NO_OPTIONS
    host = b""
    guards: HeaderList = []
    for name, value in headers:
        if name in _PLAIN:
            passed += (name, b": ", value, b"\r\n")
            continue
        folded = name.translate(_FOLD)
        if folded not in _REQUEST_SPECIAL:
            if not folded.startswith(_IDENTITY_PREFIXES):
                passed += (name, b": ", value, b"\r\n")
        elif name.lower() != folded and folded not in _GUARDS:
            continue  # disguised: the parser did not act on it, and Nova must not either
        elif folded == b"host":
            hosts += 1
            host = value
        elif folded == b"connection":
            connection |= connection_options(value)
        elif folded in _GUARDS:
            guards.append((name, value))
            passed += (name, b": ", value, b"\r\n") if folded == b"via" else ()
        elif folded == b"content-length":
            content_length = value
            passed += (name, b": ", value, b"\r\n")
        elif folded == b"transfer-encoding":
            transfer_encodings.append(value)
        elif folded == b"expect":
            expectations.append(value)
    lines = b"".join(passed)
    if not connection <= _ORDINARY_OPTIONS:
        lines = sort_request_headers(_without(headers, connection)).passed
    return RequestHeaders(
        lines,
        hosts,
        content_length,
        transfer_encodings,
        expectations,
        connection,
        host,
        _guard_headers(guards) if guards else NO_GUARD_HEADERS,
    )


def _guard_headers(headers: HeaderList) -> GuardHeaders:
    # A disguised header may have passed through an HTTP proxy, but it is no token.
    return GuardHeaders(
        tuple(value for name, value in headers if name.lower() == _TOKEN),
        tuple(value for name, value in headers if name.lower() == _TOKEN_TTL),
        any(name.translate(_FOLD) in _PROXIED for name, _ in headers),
    )


class ResponseHeaders(NamedTuple):
    """A response's headers, sorted into those that pass and those that the proxy acts on."""

    passed: bytes
    """The header lines for the guest, each with its CRLF."""
    content_length: bytes | None
    transfer_encodings: list[bytes]
    connection: frozenset[bytes]


def sort_response_headers(headers: HeaderList) -> ResponseHeaders:
    """Apply the rules for headers on their way from Nova to a guest."""
    passed: list[bytes] = []
    content_length = None
    transfer_encodings: list[bytes] = []
    connection = _NO_OPTIONS
    for name, value in headers:
        if name in _PLAIN:
            passed += (name, b": ", value, b"\r\n")
            continue
        lower = name.lower()
        if lower not in _HOP_BY_HOP:
            passed += (name, b": ", value, b"\r\n")
            if lower == b"content-length":
                content_length = value
        elif lower == b"connection":
            connection |= connection_options(value)
        elif lower == b"transfer-encoding":
            transfer_encodings.append(value)
    lines = b"".join(passed)
    if not connection <= _ORDINARY_OPTIONS:
        lines = sort_response_headers(_without(headers, connection)).passed
    return ResponseHeaders(lines, content_length, transfer_encodings, connection)


def _without(headers: HeaderList, nominated: frozenset[bytes]) -> HeaderList:
    """Leave out the headers that Connection nominates, and Connection itself.

    Content-Length stays: it is about the body, not the connection, and Nova needs it.
    """
    dropped = {name.translate(_FOLD) for name in nominated} | {b"connection"}
    dropped.discard(b"content-length")
    return [header for header in headers if header[0].translate(_FOLD) not in dropped]


def connection_options(value: bytes) -> frozenset[bytes]:
    """Split the value of a Connection header into its options, in lower case."""
    known = _USUAL_OPTIONS.get(value)
    if known is not None:
        return known
    options = (option.strip(b" \t").lower() for option in value.split(b","))
    return frozenset(option for option in options if option)


_USUAL_OPTIONS = {
    b"close": frozenset({b"close"}),
    b"keep-alive": frozenset({b"keep-alive"}),
    b"Keep-Alive": frozenset({b"keep-alive"}),
}
"""The options in the usual values of Connection."""


def is_persistent(http_1_1: bool, connection: frozenset[bytes]) -> bool:
    """Whether a connection may outlive this message (RFC 9112, section 9.3)."""
    if not connection:
        return http_1_1
    return b"close" not in connection and (http_1_1 or b"keep-alive" in connection)


def is_chunked(transfer_encodings: list[bytes]) -> bool:
    """Whether Transfer-Encoding is "chunked" and nothing else."""
    return [value.strip().lower() for value in transfer_encodings] == [b"chunked"]
