"""Many guests that boot at once: each asks what cloud-init asks, from its own network namespace.

One thread and one event loop for all guests. A socket stays in the namespace it was made in, so
this thread enters a guest's for as long as making one takes, and is back before anything else runs.
Times are in seconds.
"""

import asyncio
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httptools
from pyroute2 import netns

from lab.rig.guest import Guest
from lab.upstream.cloud_init import BOOT_PATHS, REQUEST_HEADERS
from ovs_metadata.host.address import SERVICE_IPV4, SERVICE_PORT

TIMEOUT = 10.0
"""How long cloud-init waits for a connection, and for each piece of an answer."""

TRIES = 6
"""How often cloud-init asks when there is no answer at all; an error is an answer."""

BETWEEN_TRIES = 1.0

_RETRANSMISSIONS = struct.Struct("=100xI")
"""`tcpi_total_retrans` in struct tcp_info of linux/tcp.h."""


@dataclass
class Storm:
    """What happened: when each guest was done, how long each request took, what went wrong.

    `retries` are requests sent again after none was answered; `retransmissions` are TCP segments
    that guests sent again, those that open a connection among them.
    """

    done: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    retries: int = 0
    retransmissions: int = 0


class _Answer:
    """Collects one answer; what httptools calls."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def boot_all(guests: Sequence[Guest], paths: Sequence[str] = BOOT_PATHS) -> Storm:
    """Have all guests boot at once, and wait for the last one.

    Raises:
        OSError: a guest's namespace is not there.
    """
    with ExitStack() as stack:
        namespaces = [stack.enter_context(_opened(f"/run/netns/{guest.name}")) for guest in guests]
        home = stack.enter_context(_opened("/proc/thread-self/ns/net"))
        return asyncio.run(_boot_all(guests, namespaces, home, paths))


async def _boot_all(
    guests: Sequence[Guest], namespaces: Sequence[int], home: int, paths: Sequence[str]
) -> Storm:
    storm = Storm()
    began = time.monotonic()

    async def boot(guest: Guest, namespace: int) -> None:
        for path in paths:
            asked = time.monotonic()
            error = await _ask_patiently(guest, path, namespace, home, storm)
            storm.requests.append(time.monotonic() - asked)
            if error:
                storm.errors.append(f"{guest.name}: GET {path}: {error}")
        storm.done.append(time.monotonic() - began)

    await asyncio.gather(*map(boot, guests, namespaces))
    return storm


async def _ask_patiently(
    guest: Guest, path: str, namespace: int, home: int, storm: Storm
) -> str | None:
    """Ask until there is an answer; returns its fault, or why there is none."""
    for left in reversed(range(TRIES)):
        sock = _socket_in(namespace, home)
        try:
            return await _ask(sock, guest, path)
        except (OSError, httptools.HttpParserError) as error:
            if not left:
                return f"no answer: {error!r}"
            storm.retries += 1
        finally:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RETRANSMISSIONS.size)
            storm.retransmissions += _RETRANSMISSIONS.unpack(info)[0]
            sock.close()
        await asyncio.sleep(BETWEEN_TRIES)
    raise AssertionError("the last try returns")


async def _ask(sock: socket.socket, guest: Guest, path: str) -> str | None:
    """Ask once; returns the answer's fault.

    Raises:
        OSError: there was none, or not all of it (TimeoutError is one).
        HttpParserError: it is not HTTP.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TIMEOUT):
        await loop.sock_connect(sock, (SERVICE_IPV4, SERVICE_PORT))
    await loop.sock_sendall(sock, f"GET {path} HTTP/1.1\r\n{REQUEST_HEADERS}\r\n".encode())
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.complete:
        async with asyncio.timeout(TIMEOUT):
            data = await loop.sock_recv(sock, 65536)
        if not data:
            raise ConnectionAbortedError("the answer ended early")
        parser.feed_data(data)
    if parser.get_status_code() != 200:
        return f"{parser.get_status_code()}: {answer.body[:100]!r}"
    if not answer.body.startswith(guest.instance_id.encode()):
        return f"another instance's answer: {answer.body[:36]!r}"
    return None


def _socket_in(namespace: int, home: int) -> socket.socket:
    netns.setns(namespace)
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    finally:
        netns.setns(home)
    return sock


@contextmanager
def _opened(path: str | Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
