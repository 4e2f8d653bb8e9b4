"""An endpoint of Nova's metadata API, as a value made from its URL."""

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Nova metadata endpoint. Make it with `parse_endpoint`."""

    scheme: str
    host: str
    port: int
    host_line: bytes = field(repr=False)
    """The Host header as sent to this endpoint, with its CRLF."""

    def __str__(self) -> str:
        """Return the URL, for logs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """Parse an endpoint from a URL such as ``http://nova.example:8775``.

    Raises:
        ValueError: it is not an http or https URL of a host and port alone. A path is refused:
            the proxy sends the guest's path unchanged, so it would have no use.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"Nova metadata URL {url!r}: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"Nova metadata URL {url!r} must begin with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a Nova metadata URL must not carry a user name or password")
    if not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"Nova metadata URL {url!r} names no valid host")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"Nova metadata URL {url!r} must end after the host and port")
    try:
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValueError(f"Nova metadata URL {url!r} names no valid host") from None
    if port == 0:
        raise ValueError(f"Nova metadata URL {url!r}: port 0 is invalid")
    return Endpoint(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or _DEFAULT_PORTS[parts.scheme],
        host_line=f"Host: {parts.netloc}\r\n".encode("ascii"),
    )


def is_address(host: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
