"""Runs in a guest's namespace: asks who it is as fast as it can, and writes down every answer.

Over IPv4 and IPv6 in turn, each on a new connection and on one that is kept, from the address that
the kernel picks; and on new ones from ever other addresses, which no record has. One line for each
request on standard output: what became of it, on which kind of connection, when it was sent and
when that was known (CLOCK_MONOTONIC, seconds, the same in all namespaces), and the body. Needs
nothing but the standard library. Ends with SIGTERM, all lines written.
"""

import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable

TIMEOUT = 0.3
"""Seconds to wait for an answer: while a port is being moved packets are lost."""

FLUSHED = 20
"""Lines after which they are written out."""

REQUEST = b"GET /who HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"

Connect = Callable[[], socket.socket]

OTHER_NETWORKS = ("198.18.0.0/16", "2001:db8::/64")
"""Whose addresses the guest has, all of them (RFC 2544, RFC 3849)."""

_IPV6_FREEBIND = 78
"""Of linux/in6.h: addresses of a local route may be bound to, as over IPv4."""


def _ipv4(source: str = "") -> socket.socket:
    return _connected(socket.AF_INET, ("169.254.169.254", 80), source)


def _ipv6(source: str = "") -> socket.socket:
    place = ("fe80::a9fe:a9fe", 80, 0, socket.if_nametoindex("eth0"))
    return _connected(socket.AF_INET6, place, source)


def _other_ipv4() -> socket.socket:
    return _ipv4(f"198.18.{random.randrange(256)}.{random.randrange(1, 255)}")  # noqa: S311


def _other_ipv6() -> socket.socket:
    return _ipv6(f"2001:db8::{random.randrange(1, 2**16):x}")  # noqa: S311


def _connected(
    family: socket.AddressFamily, address: tuple[str | int, ...], source: str
) -> socket.socket:
    sock = socket.socket(family)
    try:
        sock.settimeout(TIMEOUT)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        if source:
            sock.bind((source, 0))
        # A reset at the end: no connection lingers and takes up a local port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def ask(sock: socket.socket) -> tuple[str, str]:
    """Send the request and read the answer: its status and body.

    Raises:
        OSError: there was none, or not all of it.
    """
    sock.sendall(REQUEST)
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1].decode()
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += _receive(sock)
    return status, body.decode(errors="replace").strip()


def _receive(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionAbortedError
    return data


class Way:
    """A way to ask: how to connect, and whether the connection is kept."""

    def __init__(self, name: str, connect: Connect, *, kept: bool) -> None:
        self._name = name
        self._connect = connect
        self._kept = kept
        self._open: socket.socket | None = None

    def ask(self) -> str:
        """Ask once; the line to write down."""
        status, body = "", ""
        sent = time.monotonic()
        try:
            sock = self._open or self._connect()
            self._open = sock
            sent = time.monotonic()
            status, body = ask(sock)
        except OSError as error:
            status = type(error).__name__
        received = time.monotonic()
        if self._open and not (self._kept and status == "200"):
            self._open.close()
            self._open = None
        return f"{status} {self._name} {sent:.6f} {received:.6f} {body.partition(chr(10))[0]}\n"


def main() -> None:
    """Ask until SIGTERM."""
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _frame: ending.append(signum))
    ways = [
        Way("ipv4-new", _ipv4, kept=False),
        Way("ipv4-kept", _ipv4, kept=True),
        Way("ipv6-new", _ipv6, kept=False),
        Way("ipv6-kept", _ipv6, kept=True),
        Way("ipv4-other", _other_ipv4, kept=False),
        Way("ipv6-other", _other_ipv6, kept=False),
    ]
    for network in OTHER_NETWORKS:
        family = "-6" if ":" in network else "-4"
        subprocess.run(
            ["ip", family, "route", "replace", "local", network, "dev", "lo"], check=True
        )
    written = 0
    while not ending:
        for way in ways:
            sys.stdout.write(way.ask())
            written += 1
            if written % FLUSHED == 0:
                sys.stdout.flush()


if __name__ == "__main__":
    main()
