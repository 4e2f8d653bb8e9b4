"""How a store in ZooKeeper is protected: digest credentials and TLS. Read once, from files.

The credentials are in a separate file, one line USER:PASSWORD that only its owner may read, so that
no configuration, URL, command line or log holds them. Only clients with the same credentials can
use nodes that were created with them (ZooKeeper's ACL scheme "digest", all permissions).
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ovs_metadata.regular_file import open_regular, read_regular
from ovs_metadata.store.errors import StoreError
from ovs_metadata.tls import Pair, Part, UnusableError, client_context

MAX_AUTH_FILE = 1024
"""Bytes. A longer file is the wrong file."""


@dataclass(frozen=True)
class Security:
    """Credentials and TLS files. TLS is used when `tls_ca` is given.

    credentials: "user:password" or nothing. tls_ca: file of the certificates that servers'
    certificates must be signed by. tls_cert, tls_key: files of our own, both or none.
    """

    credentials: str = field(default="", repr=False)
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None


@dataclass(frozen=True)
class ServerCertificate:
    """The certificate that a server of the ensemble shows, in DER. server: "host:port"."""

    server: str
    der: bytes = field(repr=False)


PLAIN = Security()
"""No credentials, no TLS."""


def read_security(
    auth_file: Path | None = None,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> Security:
    """Read the credentials, and check that the other files can be used.

    Raises:
        StoreError: a file cannot be read, holds something else, or is open to others.
    """
    if (tls_cert is None) != (tls_key is None):
        raise StoreError("the store's TLS certificate and key need each other: set both or neither")
    if tls_cert and not tls_ca:
        raise StoreError("the store's TLS certificate is unused without a CA file")
    for path in filter(None, (tls_ca, tls_cert)):
        _check_readable(path)
    if tls_key:
        _check_readable(tls_key, private=True)
    security = Security(_credentials(auth_file) if auth_file else "", tls_ca, tls_cert, tls_key)
    if tls_ca:
        make_context(security)
    return security


def make_context(security: Security) -> ssl.SSLContext:
    """Return a context of what the files hold now, for a connection to a server of the ensemble.

    Raises:
        StoreError: a file cannot be read, or holds something else.
    """
    files = {
        Part.AUTHORITIES: security.tls_ca,
        Part.CERTIFICATE: security.tls_cert,
        Part.KEY: security.tls_key,
    }
    texts = {part: _text(path) for part, path in files.items() if path}
    pair = Pair(texts[Part.CERTIFICATE], texts[Part.KEY]) if Part.CERTIFICATE in texts else None
    try:
        # Without the file, it would trust the system's authorities.
        return client_context(texts[Part.AUTHORITIES], pair)
    except UnusableError as error:
        raise StoreError(f"{files[error.part]} {error.problem}") from None


def _text(path: Path) -> str:
    try:
        return read_regular(path).decode("utf-8", "replace")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _credentials(path: Path) -> str:
    _check_readable(path, private=True)
    with open_regular(path) as file:
        content = file.read(MAX_AUTH_FILE + 1)
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    user, colon, password = text.partition(":")
    if len(content) > MAX_AUTH_FILE or len(text.splitlines()) != 1 or not (user and password):
        raise StoreError(f"ZooKeeper credentials {path}: not one line of the form USER:PASSWORD")
    return user + colon + password


def _check_readable(path: Path, *, private: bool = False) -> None:
    try:
        with open_regular(path) as file:
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if private and mode & stat.S_IRWXO:
        raise StoreError(f"{path} is readable by other users: chmod 600 {path}")
