"""Sockets of a network namespace, used from outside: a socket stays where it was made."""

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator

from pyroute2 import netns


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Put this thread into a namespace. For the main thread only: pyroute2 notes one way back."""
    netns.pushns(namespace)
    try:
        yield
    finally:
        netns.popns()


@contextlib.contextmanager
def http_server(namespace: str, address: str, port: int, body: str) -> Iterator[None]:
    """An HTTP server inside a namespace that answers any GET with `body`.

    `address` is an IPv4 address, or "::" for IPv6.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            payload = body.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer((address, port), Handler, bind_and_activate=False)
    server.socket.close()
    with inside(namespace):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server.socket = socket.create_server((address, port), family=family)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="http")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
