"""Who may use the admin listener from elsewhere: TLS, and users or client certificates.

Files are read again when they change. If a changed file cannot be used, that is logged, and the
listener keeps what it has read before. A check of a password takes some 50 ms of a processor: a
thread does it, one at a time, and wrong passwords are limited. On the event loop.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import os
import secrets
import ssl
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Generic, TypeVar

from ovs_metadata.agent.allowance import Allowance
from ovs_metadata.agent.changed_files import Signature, signature
from ovs_metadata.host.config import AdminOptions
from ovs_metadata.passwords import hashed, is_hashed, matches
from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.regular_file import open_regular
from ovs_metadata.tls import server_context

LOG = logging.getLogger(__name__)

CHECKS_AT_ONCE, CHECKS_PER_SECOND = 5, 1.0
"""Checks of passwords that were not checked before, at once and in the long run."""

MAX_USERS_FILE = 64 * 1024

T = TypeVar("T")


class Admission(Enum):
    """What is decided of a request."""

    ADMITTED = 200
    REFUSED = 401
    LATER = 429


class Access:
    """Decides by the files of `[admin]`."""

    def __init__(self, options: AdminOptions) -> None:
        """Read the files.

        Raises:
            OSError: one cannot be read.
            ValueError: one cannot be used; the message names it.
        """
        self.authenticates = options.guarded
        """Whether clients must prove who they are."""
        self._tls = _Files(
            [options.tls_cert_file, options.tls_key_file, options.client_ca_file],
            lambda: _context(options),
        )
        self._users = _Files([options.users_file], lambda: read_users(options.users_file))
        self._key = secrets.token_bytes(32)
        self._known: set[bytes] = set()
        self._known_of: object = None
        self._checking = asyncio.Lock()
        now = asyncio.get_running_loop().time()
        self._checks = Allowance(CHECKS_AT_ONCE, CHECKS_PER_SECOND, now)
        self._no_user = hashed(secrets.token_hex(), secrets.token_bytes(16))

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS of a new connection; None without TLS."""
        return self._tls.content()

    async def admission(self, authorization: str) -> Admission:
        """Decide by a request's header Authorization."""
        users = self._users.content()
        if users is None:
            return Admission.ADMITTED  # by the client certificate
        if self._known_of is not users:
            self._known, self._known_of = set(), users
        name, password = _credentials(authorization)
        seen = hmac.digest(self._key, f"{name}:{password}".encode(), hashlib.sha256)
        if seen in self._known:
            return Admission.ADMITTED
        if not authorization:
            return Admission.REFUSED
        if not self._checks.take(asyncio.get_running_loop().time()):
            return Admission.LATER
        async with self._checking:
            # The check of a user who does not exist takes as long.
            word = users.get(name, self._no_user)
            right = await asyncio.to_thread(matches, password, word)
        if not right:
            return Admission.REFUSED
        if self._known_of is users:
            self._known.add(seen)
        return Admission.ADMITTED


class _Files(Generic[T]):
    """The content of some files, read again when one of them has changed."""

    def __init__(self, paths: list[Path | None], read: Callable[[], T]) -> None:
        self._paths = [path for path in paths if path]
        self._read = read
        self._seen = self._signature()
        self._content = read() if self._paths else None
        self._problem = ProblemLog(
            LOG, "the admin listener keeps what it has read before: %s", level=logging.ERROR
        )

    def content(self) -> T | None:
        """Return the content; None if there are no files."""
        seen = self._signature()
        if seen != self._seen:
            self._seen = seen
            try:
                self._content = self._read()
            except (OSError, ValueError) as error:
                self._problem.found([str(error)])
            else:
                self._problem.found()
        return self._content

    def _signature(self) -> list[Signature | None]:
        return [signature(path) for path in self._paths]


def _context(options: AdminOptions) -> ssl.SSLContext:
    if options.tls_cert_file is None or options.tls_key_file is None:
        raise ValueError("there is no certificate")
    return server_context(options.tls_cert_file, options.tls_key_file, options.client_ca_file)


def read_users(path: Path | None) -> Mapping[str, str]:
    """Read the users: their names, each with the word of its password.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not in order; the message does not repeat it.
    """
    if path is None:
        return {}
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise ValueError(f"{path} must be readable by its owner alone (chmod 600)")
        lines = file.read(MAX_USERS_FILE).decode().splitlines()
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, word = line.strip().partition(":")
        if not name or not is_hashed(word):
            raise ValueError(
                f"{path}, line {number}, is no line of ovs-metadata hash-password, NAME:$scrypt$…"
            )
        users[name] = word
    return users


def _credentials(authorization: str) -> tuple[str, str]:
    """Name and password of HTTP's Basic scheme (RFC 7617); empty if there are none."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password
