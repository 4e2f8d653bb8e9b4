"""A Nova where every byte counts: it records what reaches it, and gives any answer.

What the proxy sends is read twice, independently of the proxy's own parser: by h11, and by a strict
look at each line of the head (h11 forgives a bare LF and folded lines, this does not). Whatever is
wrong with it is among the `problems`.

A thread of its own runs an event loop while the `with` block lasts. The lists are only appended to,
and a request is on them before any byte of its answer is sent.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import h11

from lab.rig.running import LoopThread

IDENTITY_HEADERS = (
    b"X-Instance-ID",
    b"X-Tenant-ID",
    b"X-Instance-ID-Signature",
    b"X-Forwarded-For",
)
"""What every request must have exactly one of, in any spelling a WSGI server folds."""

_MAX_MESSAGE = 4 * 1024 * 1024

# RFC 9112 without its tolerances: one blank or none after the colon, nothing folded, no controls.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/1\.1")
_HEADER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True)
class Recorded:
    """One request as it came from the proxy."""

    number: int
    """Its place among all of them; also in the `Record` header of the usual answer."""
    connection: int
    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    """Names as they were spelled."""
    body: bytes
    raw: bytes
    """Head and body, byte for byte."""

    def values(self, name: bytes) -> list[bytes]:
        """The values of a header, found in any case and with ``_`` for ``-``."""
        wanted = fold(name)
        return [value for key, value in self.headers if fold(key) == wanted]

    def identity(self) -> tuple[bytes, ...] | None:
        """The values of the identity headers; None unless there is exactly one of each."""
        found = [self.values(name) for name in IDENTITY_HEADERS]
        return tuple(values[0] for values in found) if all(len(v) == 1 for v in found) else None


@dataclass(frozen=True)
class Reply:
    """What is sent back: pieces, each with a turn of the event loop before the next."""

    pieces: tuple[bytes, ...]
    close: bool = False
    """Whether the connection is closed after it."""


def fold(name: bytes) -> bytes:
    """A header's name as a WSGI server sees it."""
    return name.lower().replace(b"_", b"-")


def usual_reply(request: Recorded) -> Reply:
    """200, saying which record it is and as whom the guest was introduced."""
    seen = b" ".join(request.values(b"X-Instance-ID"))
    head = b"HTTP/1.1 200 OK\r\nRecord: %d\r\nSeen-Instance: %b\r\nContent-Length: 2\r\n\r\n"
    body = b"" if request.method == b"HEAD" else b"ok"
    return Reply((head % (request.number, seen) + body,))


class UpstreamRecorder(LoopThread):
    """A metadata API on a loopback port. Set `respond` to have other answers than the usual."""

    def __init__(self, respond: Callable[[Recorded], Reply] = usual_reply) -> None:
        super().__init__("upstream recorder")
        self.respond = respond
        self.requests: list[Recorded] = []
        self.replied = 0
        """How many requests have got all of their reply, or as much of it as could be sent."""
        self.problems: list[str] = []
        self.url = ""
        self._connections = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer all clients."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=1024)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        try:
            yield
        finally:
            server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        try:
            while (request := await self._read(reader, connection)) is not None:
                reply = self.respond(request)
                try:
                    for piece in reply.pieces:
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0)
                finally:
                    self.replied += 1
                if reply.close:
                    return
        except ConnectionError:
            return  # the proxy gave the connection up
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, connection: int) -> Recorded | None:
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_MESSAGE)
        raw = bytearray()
        head: h11.Request | None = None
        body = bytearray()
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                if raw:  # otherwise the proxy has closed an idle connection
                    self.problems.append(f"h11: {error} in {bytes(raw[:2000])!r}")
                return None
            if event is h11.NEED_DATA:
                data = await reader.read(65536)
                if not data:
                    # A request given up half-way is no request: nothing follows it.
                    return None
                raw += data
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                break
        if parser.trailing_data[0]:
            self.problems.append(f"bytes after the end of a request: {bytes(raw[:2000])!r}")
        self._check_head(bytes(raw))
        request = Recorded(
            number=len(self.requests),
            connection=connection,
            method=bytes(head.method),
            target=bytes(head.target),
            headers=tuple((bytes(name), bytes(value)) for name, value in head.headers.raw_items()),
            body=bytes(body),
            raw=bytes(raw),
        )
        self._check_fields(request)
        self.requests.append(request)
        return request

    def _check_head(self, raw: bytes) -> None:
        first, *lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
        if not _REQUEST_LINE.fullmatch(first):
            self.problems.append(f"request line {first!r}")
        self.problems.extend(
            f"header line {line!r}" for line in lines if not _HEADER_LINE.fullmatch(line)
        )

    def _check_fields(self, request: Recorded) -> None:
        """Note what no request may have, from any guest."""
        if request.identity() is None:
            self.problems.append(f"not one of each identity header: {request.raw[:2000]!r}")
        if len(request.values(b"Host")) != 1:
            self.problems.append(f"not one Host: {request.raw[:2000]!r}")
        if request.values(b"Transfer-Encoding") or len(request.values(b"Content-Length")) > 1:
            self.problems.append(f"framing: {request.raw[:2000]!r}")
        foreign = (b"x-metadata-provider", b"x-neutron-", b"x-ovn-")
        known = {fold(name) for name in IDENTITY_HEADERS}
        for name, _ in request.headers:
            folded = fold(name)
            beside = folded.startswith((b"x-instance-id", b"x-tenant-id")) and folded not in known
            if beside or folded.startswith(foreign):
                self.problems.append(f"header {name!r} in {request.raw[:2000]!r}")
