"""Helpers for the proxy's tests: a scripted Nova, a running proxy, guests on loopback.

Each guest connects to its own 127.0.0.N, which is its key in the identity table. Everything runs
on one uvloop event loop within the test and is closed at its end.
"""

import asyncio
import contextlib
import dataclasses
import functools
import math
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec

import uvloop

from lab.rig import process
from ovs_metadata.metadata_options import EffectiveOptions, MetadataOptions
from ovs_metadata.proxy.control.confirmation import Confirmations
from ovs_metadata.proxy.control.identity import Entry, Identity, IdentityTable
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.nova.endpoint_pool import TRIAL_AGENT
from ovs_metadata.proxy.server import ProxyServer

DEADLINE = 20.0
"""Seconds after which a test that waits for something fails."""

P = ParamSpec("P")


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on an event loop like the worker's, and not for ever.

    An exception that the loop had to handle, because it left a callback, fails the test too.
    """

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            escaped: list[dict[str, Any]] = []
            runner.get_loop().set_exception_handler(lambda _, context: escaped.append(context))
            runner.run(asyncio.wait_for(test(*args, **kwargs), DEADLINE))
        assert escaped == [], escaped

    return wrapper


def identity(number: int, *, port: str | None = None) -> Identity:
    """Return the identity of instance ``number``, every value of it telling."""
    return Identity(
        port_id=port or f"port-{number}",
        instance_id=f"instance-{number}",
        project_id=f"project-{number}",
        fixed_ip=f"10.0.0.{number}",
        signature=f"signature-{number}",
    )


TOKEN_KEY = "7f" * 32


def guarded_identity(
    number: int,
    *,
    token_key: str = TOKEN_KEY,
    host_names: tuple[str, ...] = (),
    decided: tuple[tuple[str, str], ...] = (),
    unknown: tuple[str, ...] = (),
    **options: Any,
) -> Identity:
    """Return the identity of instance ``number`` with session tokens and these options."""
    effective = EffectiveOptions(
        options=MetadataOptions(**options),
        host_names=host_names,
        decided=decided,
        unknown=unknown,
    )
    return dataclasses.replace(identity(number), token_key=token_key, options=effective)


def identity_lines(number: int) -> bytes:
    """Return the header lines Nova must get for instance ``number``."""
    return (
        f"X-Instance-ID: instance-{number}\r\n"
        f"X-Tenant-ID: project-{number}\r\n"
        f"X-Instance-ID-Signature: signature-{number}\r\n"
        f"X-Forwarded-For: 10.0.0.{number}\r\n"
    ).encode()


_REQUEST_ID_LINE = re.compile(rb"X-OpenStack-Request-ID: (req-[0-9a-f-]{36})\r\n")

REQUEST_ID = b"req-c8cf5e43-9a43-4a3c-8ea5-2b3a9a6cd6f2"
REQUEST_ID_LINE = b"X-OpenStack-Request-ID: " + REQUEST_ID + b"\r\n"


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    await process.until(condition, DEADLINE / 2)


@dataclass
class NovaConnection:
    """One connection the proxy has made to the scripted Nova."""

    nova: "Nova"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Return the next request, head and body; empty when the proxy has closed."""
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.nova.closed += 1
            return b""
        for line in raw.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                raw += await self.reader.readexactly(int(line.partition(b":")[2]))
        before, request_id, after = _REQUEST_ID_LINE.split(raw)
        if b"User-Agent: %b\r\n" % TRIAL_AGENT in before:
            self.nova.trials += 1
            return raw
        self.nova.requests.append(before + after)
        self.nova.request_ids.append(request_id)
        return raw

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()


Script = Callable[[NovaConnection], Awaitable[None]]


@dataclass
class Nova:
    """A metadata API that plays a script on each connection."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    """Without the request id, which is random."""
    request_ids: list[bytes] = field(default_factory=list)
    trials: int = 0
    """Requests of the pool's own, which are in neither of these lists."""
    connections: int = 0
    closed: int = 0


def answers(*texts: bytes) -> Script:
    """Return a script that gives these answers in turn, over and over, on each connection."""

    async def script(connection: NovaConnection) -> None:
        turn = 0
        while await connection.request():
            await connection.send(texts[turn % len(texts)])
            turn += 1

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def running_nova(
    script: Script,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    name: str = "",
) -> AsyncIterator[Nova]:
    """Run a scripted Nova. A script that returns, closes its connection.

    With ``tls`` it speaks https; ``name`` is what its URL calls the host then.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        nova.connections += 1
        try:
            await script(NovaConnection(nova, reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass  # the proxy has gone away, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, port, limit=4 * 1024 * 1024, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    nova = Nova(f"{'https' if tls else 'http'}://{name or host}:{port}")
    try:
        yield nova
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@dataclass
class Guest:
    """A guest's connection to the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection, which must be a proper one."""
        return await self.reader.read()

    async def until_reset(self) -> bytes:
        """Return everything up to the reset of the connection; fail if it ends properly."""
        data = b""
        try:
            while piece := await self.reader.read(65536):
                data += piece
        except ConnectionResetError:
            return data
        raise AssertionError(f"the connection ended properly after {data[:200]!r}")

    async def answer(self) -> bytes:
        """Return one answer that has a Content-Length, head and body."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in raw.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        return raw + await self.reader.readexactly(length)

    async def get(self, path: str = "/") -> bytes:
        """Send a plain GET and return the answer."""
        await self.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        return await self.answer()

    def shut_down(self) -> None:
        """Say that nothing more will be sent."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Break the connection off."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


@dataclass
class Proxy:
    """A proxy server on a loopback port, in this process."""

    server: ProxyServer
    table: IdentityTable
    port: int
    guests: list[Guest] = field(default_factory=list)

    async def guest(self, number: int = 2) -> Guest:
        """Connect as guest ``number``, to 127.0.0.``number``."""
        reader, writer = await asyncio.open_connection(f"127.0.0.{number}", self.port)
        guest = Guest(reader, writer)
        self.guests.append(guest)
        return guest

    async def exchange(self, request: bytes, number: int = 2) -> bytes:
        """Send bytes on a new connection; return all that comes until the proxy closes it."""
        guest = await self.guest(number)
        await guest.send(request)
        data = await guest.rest()
        guest.close()
        return data

    async def settle(self) -> None:
        """Wait until the proxy has read what the guests have sent so far.

        A request that is sent later and answered, by way of guest 9, shows it.
        """
        guest = await self.guest(9)
        await guest.get("/settle")
        guest.close()


@contextlib.asynccontextmanager
async def running_proxy(
    *urls: str,
    entries: dict[str, Entry] | None = None,
    confirmations: Confirmations | None = None,
    probes: bool = False,
    **settings: Any,
) -> AsyncIterator[Proxy]:
    """Run a proxy in front of these endpoints; guests 2 to 9 are known unless entries are given.

    Without `probes`, the only connections to the first endpoints are those of requests and trials.
    """
    if entries is None:
        entries = {f"127.0.0.{number}": guarded_identity(number) for number in range(2, 10)}
    table = IdentityTable(entries)
    settings.setdefault("unavailable_timeout", 0.0)
    server = ProxyServer(
        Settings(nova_metadata_urls=urls, **settings), table, confirmations=confirmations
    )
    listener = socket.create_server(("", 0))
    server.add_socket(listener)
    if not probes:
        for each in server.pool._endpoints:
            each.health = replace(each.health, probe_at=math.inf)
    await server.start()
    proxy = Proxy(server, table, listener.getsockname()[1])
    try:
        yield proxy
    finally:
        for guest in proxy.guests:
            guest.close()
        server.close()


@contextlib.asynccontextmanager
async def relay(script: Script, **options: Any) -> AsyncIterator[tuple[Proxy, Nova]]:
    """Run a proxy with one scripted Nova behind it."""
    async with running_nova(script) as nova, running_proxy(nova.url, **options) as proxy:
        yield proxy, nova
