"""A guest's request as a value: what is refused at once, and what is sent to Nova.

Pure functions, no I/O. The parser (llhttp in its strict mode, through httptools) has already
refused what it finds malformed: bare CR or LF, folded lines, NUL and control characters, bad
tokens, several or unreadable Content-Lengths, Content-Length together with Transfer-Encoding. Here
is the rest.
"""

from typing import NamedTuple

from ovs_metadata.proxy.errors import Failure
from ovs_metadata.proxy.headers import HeaderList, is_persistent, sort_request_headers
from ovs_metadata.proxy.identity import Identity

# Methods that may be sent a second time when the first brought no answer (RFC 9110, 9.2.2).
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


class RequestHead(NamedTuple):
    """The head of an acceptable request."""

    method: bytes
    target: bytes
    """In origin form (or ``*``), otherwise exactly as the guest wrote it."""
    header_lines: bytes
    """What of the guest's headers goes to Nova, each line with its CRLF."""
    http_1_1: bool
    keep_alive: bool
    content_length: int | None
    chunked: bool
    expects_continue: bool


class Request(NamedTuple):
    """A whole request: its body has arrived."""

    head: RequestHead
    body: bytes


class OutgoingRequest(NamedTuple):
    """A request as Nova gets it, but for the Host line, which depends on the endpoint."""

    start: bytes
    """The request line with its CRLF. The endpoint's Host line comes after it."""
    rest: bytes
    """All other header lines, the empty line and the body."""
    head_only: bool
    """Whether the answer has no body whatever its headers say (the method is HEAD)."""
    idempotent: bool


def digest_head(
    *, method: bytes, target: bytes, version: str, headers: HeaderList, max_body: int
) -> RequestHead | Failure:
    """Decide on a request from its head alone."""
    if method in {b"CONNECT", b"TRACE"}:
        return Failure.METHOD_REFUSED
    if version not in {"1.0", "1.1"}:
        return Failure.VERSION_REFUSED
    http_1_1 = version == "1.1"
    origin = origin_form(method, target)
    sorted_headers = sort_request_headers(headers)
    if origin is None or not _is_well_framed(
        http_1_1=http_1_1,
        hosts=sorted_headers.hosts,
        transfer_encodings=sorted_headers.transfer_encodings,
    ):
        return Failure.MALFORMED
    # An HTTP/1.0 client does not know 100-continue; its expectation is ignored (RFC 9110, 10.1.1).
    expectations = [value.strip().lower() for value in sorted_headers.expectations if http_1_1]
    if expectations and expectations != [b"100-continue"]:
        return Failure.EXPECTATION_REFUSED
    raw_length = sorted_headers.content_length
    length = None if raw_length is None else int(raw_length)
    if length is not None and length > max_body:
        return Failure.BODY_TOO_LARGE
    return RequestHead(
        method=method,
        target=origin,
        header_lines=sorted_headers.passed,
        http_1_1=http_1_1,
        keep_alive=is_persistent(http_1_1=http_1_1, connection=sorted_headers.connection),
        content_length=length,
        chunked=bool(sorted_headers.transfer_encodings),
        expects_continue=bool(expectations),
    )


def origin_form(method: bytes, target: bytes) -> bytes | None:
    """Return a request target in origin form, None if it is not one for this service.

    Path and query keep every byte. ``http://host/path`` loses what comes before the path.
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


def render_request(request: Request, identity: Identity) -> OutgoingRequest:
    """Return what Nova is sent for a request made from behind ``identity``'s port."""
    head = request.head
    # Nova's password handler cannot read chunks, so a body always goes out with its length.
    length = b"Content-Length: %d\r\n" % len(request.body) if head.chunked else b""
    return OutgoingRequest(
        start=b"%b %b HTTP/1.1\r\n" % (head.method, head.target),
        rest=b"".join((head.header_lines, length, identity.header_block, b"\r\n", request.body)),
        head_only=head.method == b"HEAD",
        idempotent=head.method in _IDEMPOTENT,
    )


def _is_well_framed(*, http_1_1: bool, hosts: int, transfer_encodings: list[bytes]) -> bool:
    if hosts != 1 and (http_1_1 or hosts > 1):
        return False
    if not transfer_encodings:
        return True
    # Anything but exactly "chunked" is read differently by different servers.
    return http_1_1 and [value.strip().lower() for value in transfer_encodings] == [b"chunked"]
