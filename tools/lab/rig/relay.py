"""A TCP relay out of a network namespace: listens inside it, connects from here.

A namespace of the lab has no way out. Its one opening is this: a listening socket made inside,
served by a thread outside. Lives as long as the `with` block.
"""

import asyncio
import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from pyroute2 import netns


class Relay:
    """Connections to 127.0.0.1:`port` inside `namespace` end at `target`, HOST:PORT, out here."""

    def __init__(self, namespace: str, port: int, target: str) -> None:
        host, _, target_port = target.rpartition(":")
        self._target = (host, int(target_port)) if host else (target, 80)
        netns.pushns(namespace)
        try:
            self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        finally:
            netns.popns()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._relay, sock=self._listener))
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

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
