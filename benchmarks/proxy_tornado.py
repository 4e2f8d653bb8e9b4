"""Relays made of Tornado's layers, for `benchmarks/proxy`: what each layer costs a request.

python proxy_tornado.py LAYER IDENTITIES PORT UPSTREAM_PORT

LAYER is `iostream` (TCPServer and IOStream on both sides), `httpserver` (HTTPServer and
AsyncHTTPClient) or `web` (the same below an Application). IDENTITIES is a worker's file. A relay
adds the headers that say who asks, as a worker does, and does nothing else that a worker does: no
limits, deadlines, accounting, or look at what it passes on. One process, one IOLoop on uvloop.
"""

import asyncio
import json
import re
import sys
from pathlib import Path

import uvloop
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient
from tornado.tcpserver import TCPServer
from tornado.web import Application, RequestHandler

END = b"\r\n\r\n"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)

NAMES = {
    "instance_id": "X-Instance-ID",
    "project_id": "X-Tenant-ID",
    "fixed_ip": "X-Forwarded-For",
    "signature": "X-Instance-ID-Signature",
}

Identities = dict[str, dict[str, str]]


def read_identities(path: Path) -> Identities:
    """The headers of each peer address."""
    known = json.loads(path.read_text())["identities"]
    return {
        address: {header: each[name] for name, header in NAMES.items()}
        for address, each in known.items()
    }


class StreamRelay(TCPServer):
    """Heads are found by their end, bodies by their length; one connection to the upstream each."""

    def __init__(self, identities: Identities, upstream: int) -> None:
        super().__init__()
        self._upstream = upstream
        self._idle: list[IOStream] = []
        self._lines = {
            address: "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
            for address, headers in identities.items()
        }

    async def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:
        """Serve a guest's connection."""
        try:
            while True:
                head = await stream.read_until(END)
                await stream.write(await self._relayed(head[:-2] + self._lines[address[0]]))
        except StreamClosedError:
            pass

    async def _relayed(self, head: bytes) -> bytes:
        nova = (
            self._idle.pop()
            if self._idle
            else await TCPClient().connect("127.0.0.1", self._upstream)
        )
        await nova.write(head + b"\r\n")
        answer = await nova.read_until(END)
        length = _LENGTH.search(answer)
        body = await nova.read_bytes(int(length[1])) if length else b""
        self._idle.append(nova)
        return answer + body


class Fetcher:
    """Asks the upstream by AsyncHTTPClient."""

    def __init__(self, identities: Identities, upstream: int) -> None:
        self._identities = identities
        self._url = f"http://127.0.0.1:{upstream}"
        AsyncHTTPClient.configure(None, max_clients=256)
        self._client = AsyncHTTPClient()

    async def fetch(self, request: HTTPServerRequest) -> HTTPResponse:
        """The upstream's answer to a guest's request."""
        identity = self._identities[request.remote_ip or ""]
        return await self._client.fetch(
            HTTPRequest(f"{self._url}{request.uri}", headers=identity, decompress_response=False),
            raise_error=False,
        )


def http_relay(fetcher: Fetcher) -> HTTPServer:
    """HTTPServer with a callback for each request."""

    async def answer(request: HTTPServerRequest) -> None:
        response = await fetcher.fetch(request)
        guest = request.connection
        if guest:
            start = ResponseStartLine("HTTP/1.1", response.code, response.reason)
            await guest.write_headers(start, response.headers, response.body)
            guest.finish()

    return HTTPServer(lambda request: asyncio.ensure_future(answer(request)))


def web_relay(fetcher: Fetcher) -> HTTPServer:
    """An Application with one handler for every path."""

    class Handler(RequestHandler):
        async def get(self) -> None:
            response = await fetcher.fetch(self.request)
            self.set_status(response.code, response.reason)
            self.finish(response.body)

    return HTTPServer(Application([(".*", Handler)]))


async def serve(layer: str, identities: Identities, port: int, upstream: int) -> None:
    """Relay for ever."""
    server: TCPServer = (
        StreamRelay(identities, upstream)
        if layer == "iostream"
        else {"httpserver": http_relay, "web": web_relay}[layer](Fetcher(identities, upstream))
    )
    server.listen(port, "0.0.0.0", backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], read_identities(Path(sys.argv[2])), *map(int, sys.argv[3:5])))
