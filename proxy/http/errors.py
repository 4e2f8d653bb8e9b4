"""The proxy's own responses: the errors, and the bytes that a guest gets for each.

The texts name nothing internal: no URL, host, port, instance or cause within the cloud. Each
response closes its connection, so the proxy never parses the bytes that follow.
"""

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _LocalResponse:
    status: int
    reason: str
    text: str
    retry: bool = False
    headers: tuple[str, ...] = ()


class ProxyError(enum.Enum):
    """Why the proxy itself responds to a request."""

    MALFORMED = _LocalResponse(400, "Bad Request", "The request is not valid HTTP.")
    NO_INTERFACE = _LocalResponse(404, "Not Found", "There is no metadata for this address.")
    METHOD_REFUSED = _LocalResponse(
        405,
        "Method Not Allowed",
        "The metadata service does not offer this method.",
        headers=("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",),
    )
    ENDPOINT_DISABLED = _LocalResponse(
        403,
        "Forbidden",
        "The metadata service of this instance is disabled: read its config drive, or set the "
        "option endpoint to enabled.",
    )
    FOREIGN_HOST = _LocalResponse(
        403,
        "Forbidden",
        "Put the address of the metadata service into the URL, 169.254.169.254 or "
        "[fe80::a9fe:a9fe], and no name.",
    )
    FORWARDED = _LocalResponse(
        403,
        "Forbidden",
        "Send the request directly, without X-Forwarded-For, X-Forwarded-Host, Forwarded, Via "
        "and X-Real-IP.",
    )
    TOKEN_MISSING = _LocalResponse(
        401,
        "Unauthorized",
        "Get a session token by PUT /latest/api/token, and send it as X-aws-ec2-metadata-token.",
    )
    TOKEN_INVALID = _LocalResponse(
        401,
        "Unauthorized",
        "The session token is invalid or has expired: get another one by PUT /latest/api/token.",
    )
    TOKEN_TTL_INVALID = _LocalResponse(
        400,
        "Bad Request",
        "Send one X-aws-ec2-metadata-token-ttl-seconds of 1 to 21600.",
    )
    TOKEN_FORWARDED = _LocalResponse(
        403,
        "Forbidden",
        "Get the session token directly, without X-Forwarded-For, X-Forwarded-Host, Forwarded, "
        "Via and X-Real-IP.",
    )
    TOKEN_METHOD_REFUSED = _LocalResponse(
        405,
        "Method Not Allowed",
        "Get a session token by PUT.",
        headers=("Allow: OPTIONS, PUT",),
    )
    TOKEN_PATH_REFUSED = _LocalResponse(
        403, "Forbidden", "Get a session token by PUT /latest/api/token."
    )
    REQUEST_TIMEOUT = _LocalResponse(408, "Request Timeout", "The request took too long to arrive.")
    BODY_TOO_LARGE = _LocalResponse(413, "Content Too Large", "The request body is too large.")
    EXPECTATION_REFUSED = _LocalResponse(
        417, "Expectation Failed", "Only 100-continue can be expected."
    )
    HEAD_TOO_LARGE = _LocalResponse(
        431, "Request Header Fields Too Large", "The request headers are too large."
    )
    RATE_LIMITED = _LocalResponse(
        429, "Too Many Requests", "Too many requests. Please try again later.", retry=True
    )
    BAD_ANSWER = _LocalResponse(
        502, "Bad Gateway", "The metadata service gave no valid answer. Please try again."
    )
    TOO_MANY_CONNECTIONS = _LocalResponse(
        503, "Service Unavailable", "Too many connections. Please try again.", retry=True
    )
    TOO_MANY_REQUESTS = _LocalResponse(
        503, "Service Unavailable", "Too many requests at once. Please try again.", retry=True
    )
    NOT_READY = _LocalResponse(
        503,
        "Service Unavailable",
        "The metadata of this instance is not ready yet. Please try again.",
        retry=True,
    )
    NOT_CONFIRMED = _LocalResponse(
        503,
        "Service Unavailable",
        "The identity of this instance cannot be confirmed at present. Please try again.",
        retry=True,
    )
    NO_ENDPOINT = _LocalResponse(
        503,
        "Service Unavailable",
        "The metadata service is not available. Please try again.",
        retry=True,
    )
    ENDPOINT_SILENT = _LocalResponse(
        504, "Gateway Timeout", "The metadata service did not answer in time. Please try again."
    )
    VERSION_REFUSED = _LocalResponse(
        505, "HTTP Version Not Supported", "Only HTTP/1.0 and HTTP/1.1 are spoken here."
    )


REFUSED_BY_OPTION: Mapping[ProxyError, str] = {
    ProxyError.ENDPOINT_DISABLED: "endpoint",
    ProxyError.FOREIGN_HOST: "hosts",
    ProxyError.FORWARDED: "proxied",
    ProxyError.TOKEN_MISSING: "tokens",
    ProxyError.TOKEN_INVALID: "tokens",
    ProxyError.TOKEN_TTL_INVALID: "tokens",
    ProxyError.TOKEN_FORWARDED: "tokens",
    ProxyError.TOKEN_METHOD_REFUSED: "tokens",
    ProxyError.TOKEN_PATH_REFUSED: "tokens",
}
"""The refusals of metadata options, and the option that each belongs to."""


def render_answer(body: bytes, headers: tuple[str, ...], *, head_only: bool = False) -> bytes:
    """Return a response of the proxy's own that is no error: 200, never cached.

    Like an error it closes its connection.
    """
    lines = [
        "HTTP/1.1 200 OK",
        *headers,
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    return head if head_only else head + body


@functools.lru_cache(maxsize=256)
def render_error(error: ProxyError, *, retry_after: int, head_only: bool = False) -> bytes:
    """Return the whole response for an error.

    ``retry_after`` is in seconds; only errors after which a retry makes sense have it.
    ``head_only`` leaves the body out, for HEAD. There are few combinations, so each is built once.
    """
    response = error.value
    body = response.text + "\n"
    lines = [
        f"HTTP/1.1 {response.status} {response.reason}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        *response.headers,
    ]
    if response.retry:
        lines.append(f"Retry-After: {retry_after}")
    lines.append("Connection: close")
    head = "\r\n".join(lines) + "\r\n\r\n"
    return (head if head_only else head + body).encode("ascii")
