"""TLS of all our clients: the authorities that a connection trusts. The only maker of contexts.

It is below all layers, because the proxy imports neither host nor store, and the store no layer.
"""

from __future__ import annotations

import os
import ssl
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from ovs_metadata.regular_file import read_regular


class Part(Enum):
    """What a context is made of."""

    AUTHORITIES = "authorities"
    CERTIFICATE = "certificate"
    KEY = "key"


class UnusableError(ValueError):
    """A PEM text cannot be used. The message does not repeat it."""

    def __init__(self, part: Part, problem: str) -> None:
        super().__init__(f"TLS {part.value}: {problem}")
        self.part = part
        self.problem = problem


class Pair(NamedTuple):
    """PEM texts of what a client shows of itself; the key is without passphrase."""

    certificate: str
    key: str


def client_context(authorities: str | None, pair: Pair | None = None) -> ssl.SSLContext:
    """Return the context of a client that trusts only these authorities.

    A server's certificate must be signed by one of them and name the host that the connection is
    made to, which may be an IP address: give `wrap_socket` that host as `server_hostname`. TLS 1.2
    and 1.3 are spoken. An authority's certificate needs no keyUsage, on any Python.

    Args:
        authorities: PEM text; None means the system's authorities.
        pair: what is shown to a server that asks.

    Raises:
        UnusableError: a text cannot be used.
    """
    if authorities is None:
        context = ssl.create_default_context()
    else:
        try:
            context = ssl.create_default_context(cadata=_ascii(authorities) or "none")
        except ssl.SSLError as error:
            problem = f"holds no usable certificate: {_reason(error)}"
            raise UnusableError(Part.AUTHORITIES, problem) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python sets this from 3.13 on. It refuses authorities without keyUsage, which many clouds have
    # and OpenStack's clients accept; an upgrade of Python would leave guests without metadata.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if pair is not None:
        _load(context, pair)
    return context


def server_context(certificate: Path, key: Path, clients: Path | None) -> ssl.SSLContext:
    """Return the context of a server; it speaks TLS 1.2 and 1.3.

    Args:
        certificate: file with its certificate and the chain.
        key: file with the private key, without passphrase.
        clients: file with the authorities that must have signed a client's certificate; None: no
            client needs one.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file cannot be used; the message names it.
    """

    def no_passphrase() -> str:
        raise ValueError(f"{key} is encrypted: store it without a passphrase")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in (certificate, key, *([clients] if clients else [])):
        read_regular(path)  # for an error that names the file
    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except ssl.SSLError as error:
        raise ValueError(f"{certificate} and {key} are no pair: {_reason(error)}") from None
    if clients:
        try:
            context.load_verify_locations(clients)
        except ssl.SSLError as error:
            raise ValueError(f"{clients} has no usable certificate: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _load(context: ssl.SSLContext, pair: Pair) -> None:
    try:
        # Only to tell apart which of the two texts is wrong.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=_ascii(pair.certificate) or "none"
        )
    except ssl.SSLError as error:
        problem = f"holds no usable certificate: {_reason(error)}"
        raise UnusableError(Part.CERTIFICATE, problem) from None

    def no_passphrase() -> str:
        raise UnusableError(Part.KEY, "is encrypted: store it without a passphrase")

    # OpenSSL reads a certificate with its key only from files. This one exists in memory alone
    # (memfd_create(2)), so that the key reaches no disk.
    with os.fdopen(os.memfd_create("tls-client", os.MFD_CLOEXEC), "wb") as file:
        file.write(f"{pair.certificate}\n{pair.key}\n".encode())
        file.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=no_passphrase)
        except ssl.SSLError as error:
            problem = (
                "does not belong to the certificate"
                if error.reason == "KEY_VALUES_MISMATCH"
                else f"holds no usable key: {_reason(error)}"
            )
            raise UnusableError(Part.KEY, problem) from None


def _ascii(pem: str) -> str:
    """PEM is ASCII; the comments in between, often names of authorities, need not be."""
    return pem.encode("ascii", "replace").decode()


def _reason(error: Exception) -> str:
    """OpenSSL's reason, without the place in its sources."""
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)
