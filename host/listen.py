"""Where the agent's admin listener may listen. Values, no I/O."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

_WANTED = (
    "must be an address and a port, such as 127.0.0.1:9775 or [::1]:9775, or unix:/PATH, or empty "
    "for no listener"
)

_MAX_PATH = 107
"""Bytes of a UNIX socket's path (sun_path of unix(7), less the NUL)."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A TCP port, of the host itself unless the listener is guarded."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A UNIX socket."""

    path: Path

    def __str__(self) -> str:
        """Return it as in the configuration."""
        return f"unix:{self.path}"


Listen: TypeAlias = ListenAddress | UnixSocket


def parse_listen(text: str, *, guarded: bool = False) -> Listen | None:
    """Read where to listen; None for an empty text. `guarded`: with TLS and authentication.

    Raises:
        ValueError: it is no place to listen, or one that others than this host could reach, and
            not guarded.
    """
    text = text.strip()
    if not text:
        return None
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if not path.is_absolute() or len(bytes(path)) > _MAX_PATH or "\0" in text:
            raise ValueError(
                f"{text!r}: the path must be absolute, and at most {_MAX_PATH} bytes long"
            )
        return UnixSocket(path)
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"{text!r} {_WANTED}") from None
    bracketed = bare != host
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not colon or "%" in host or bracketed != (address.version == 6) or not 1 <= number <= 65535:
        raise ValueError(f"{text!r} {_WANTED}")
    if not address.is_loopback and not guarded:
        raise ValueError(
            f"others than this host could reach {address}: set tls_cert_file and tls_key_file, and "
            "users_file or client_ca_file, or listen at a loopback address"
        )
    return ListenAddress(str(address), number)
