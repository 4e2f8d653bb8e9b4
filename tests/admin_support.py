"""The admin listener of an agent, on a thread of its own, for commands that ask it."""

import asyncio
import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from ovs_metadata.agent.admin.server import AdminListener
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.health import AgentView
from ovs_metadata.host.listen import Listen


@contextlib.contextmanager
def answering(
    listen: Listen,
    statistics: HostStatistics,
    about: Callable[[], AgentView],
) -> Iterator[None]:
    """Have it answer for the time of the block."""
    started, ended = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def listening() -> None:
        listener = AdminListener(statistics, about)
        listener.listen(listen)
        started.set()
        await ended.wait()
        await listener.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(listening(),))
    thread.start()
    try:
        assert started.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()


@contextlib.contextmanager
def documents_at(path: Path, documents: Mapping[str, object]) -> Iterator[None]:
    """Have something else answer there, with these documents."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(documents[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return ""

        def log_message(self, *_arguments: object) -> None:
            pass

    with socketserver.UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
