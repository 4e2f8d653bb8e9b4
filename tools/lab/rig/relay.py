"""A TCP relay out of a network namespace: listens inside it, connects from here.

A namespace of the lab has no way out. Its one opening is this: a listening socket made inside,
served by a thread outside. Lives as long as the `with` block.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from pyroute2 import netns

from lab.rig.running import LoopThread


class Relay(LoopThread):
    """Connections to 127.0.0.1:`port` inside `namespace` end at `target`, HOST:PORT, out here."""

    def __init__(self, namespace: str, port: int, target: str) -> None:
        super().__init__("relay")
        host, _, target_port = target.rpartition(":")
        self._target = (host, int(target_port)) if host else (target, 80)
        netns.pushns(namespace)
        try:
            self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        finally:
            netns.popns()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Take connections."""
        server = await asyncio.start_server(self._relay, sock=self._listener)
        try:
            yield
        finally:
            server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
