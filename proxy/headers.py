"""Which headers pass through the proxy: the rules, as data, and one pass over a header list.

Pure functions on values; no I/O. Header lists are ``(name, value)`` pairs as the parser gives them:
names as spelled, values without leading blanks.

Towards Nova
  * the identity headers and their kin are dropped in any spelling, for ours take their place;
  * hop-by-hop headers and those named by ``Connection`` are dropped (RFC 9110, section 7.6.1);
  * ``Host`` is dropped, since it names the next hop: a guest must not choose among the virtual
    hosts of a shared endpoint. ``Expect`` is dropped, for the body is already here when the request
    is sent on;
  * everything else passes in its order, spelling and number.

Towards the guest
  * hop-by-hop headers and those named by ``Connection`` are dropped, everything else passes.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

HeaderList: TypeAlias = list[tuple[bytes, bytes]]

# WSGI servers turn "-" into "_" in header names, so to them X_Instance_ID is X-Instance-ID. Rules
# are therefore applied to names with both folded, and in lower case.
_FOLD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_", b"abcdefghijklmnopqrstuvwxyz-")

# Whatever begins with one of these is the proxy's to say, not the guest's.
_IDENTITY_PREFIXES = (
    b"x-instance-id",
    b"x-tenant-id",
    b"x-metadata-provider",
    b"x-neutron-",
    b"x-ovn-",
)
_IDENTITY_NAMES = frozenset({b"x-forwarded-for", b"x-openstack-request-id"})

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

# Request headers that are read here, or dropped, or both: everything that needs a closer look.
_REQUEST_SPECIAL = _HOP_BY_HOP | _IDENTITY_NAMES | {b"host", b"expect", b"content-length"}


class RequestHeaders(NamedTuple):
    """A request's headers, sorted into what passes and what this proxy acts on."""

    passed: bytes
    """The header lines for Nova, each with its CRLF, without identity and Host."""
    hosts: int
    content_length: bytes | None
    transfer_encodings: list[bytes]
    expectations: list[bytes]
    connection: frozenset[bytes]
    """The options of the Connection headers, in lower case."""


_NO_OPTIONS: frozenset[bytes] = frozenset()


def sort_request_headers(headers: HeaderList) -> RequestHeaders:
    """Apply the rules for headers on their way from a guest to Nova."""
    passed: list[tuple[bytes, bytes]] = []
    hosts = 0
    content_length = None
    transfer_encodings: list[bytes] = []
    expectations: list[bytes] = []
    connection = _NO_OPTIONS
    for name, value in headers:
        folded = name.translate(_FOLD)
        if folded not in _REQUEST_SPECIAL:
            if not folded.startswith(_IDENTITY_PREFIXES):
                passed.append((folded, b"%b: %b\r\n" % (name, value)))
        elif b"_" in name:
            continue  # a disguise that the parser did not act on, and Nova must not
        elif folded == b"host":
            hosts += 1
        elif folded == b"connection":
            connection |= connection_options(value)
        elif folded == b"content-length":
            content_length = value
            # No option of Connection is the empty name, so this line cannot be nominated away.
            passed.append((b"", b"%b: %b\r\n" % (name, value)))
        elif folded == b"transfer-encoding":
            transfer_encodings.append(value)
        elif folded == b"expect":
            expectations.append(value)
    return RequestHeaders(
        passed=_join_lines(passed, connection),
        hosts=hosts,
        content_length=content_length,
        transfer_encodings=transfer_encodings,
        expectations=expectations,
        connection=connection,
    )


class AnswerHeaders(NamedTuple):
    """An answer's headers, sorted into what passes and what this proxy acts on."""

    passed: bytes
    """The header lines for the guest, each with its CRLF."""
    content_length: bytes | None
    transfer_encodings: list[bytes]
    connection: frozenset[bytes]


def sort_answer_headers(headers: HeaderList) -> AnswerHeaders:
    """Apply the rules for headers on their way from Nova to a guest."""
    passed: list[tuple[bytes, bytes]] = []
    content_length = None
    transfer_encodings: list[bytes] = []
    connection = _NO_OPTIONS
    for name, value in headers:
        lower = name.lower()
        if lower == b"content-length":
            content_length = value
            lower = b""
        if lower not in _HOP_BY_HOP:
            passed.append((lower, b"%b: %b\r\n" % (name, value)))
        elif lower == b"connection":
            connection |= connection_options(value)
        elif lower == b"transfer-encoding":
            transfer_encodings.append(value)
    return AnswerHeaders(
        passed=_join_lines(passed, connection),
        content_length=content_length,
        transfer_encodings=transfer_encodings,
        connection=connection,
    )


def connection_options(value: bytes) -> frozenset[bytes]:
    """Split the value of a Connection header into its options, in lower case."""
    options = (option.strip(b" \t").lower() for option in value.split(b","))
    return frozenset(option for option in options if option)


def is_persistent(*, http_1_1: bool, connection: frozenset[bytes]) -> bool:
    """Tell whether a connection may outlive this message (RFC 9112, section 9.3)."""
    if b"close" in connection:
        return False
    return http_1_1 or b"keep-alive" in connection


def _join_lines(lines: Iterable[tuple[bytes, bytes]], nominated: frozenset[bytes]) -> bytes:
    if not nominated:
        return b"".join([line for _, line in lines])
    dropped = {name.translate(_FOLD) for name in nominated} | nominated
    return b"".join([line for name, line in lines if name not in dropped])
