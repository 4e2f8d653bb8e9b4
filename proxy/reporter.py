"""Sends the worker's reports to the agent. Belongs to the event loop's thread."""

import asyncio
import contextlib

from ovs_metadata.proxy.report import Report, encode
from ovs_metadata.proxy.server import ProxyServer

INTERVAL = 1.0
"""Seconds between two reports. A worker that is killed takes with it what it has not reported."""

_FINISH_TIMEOUT = 1.0
"""Seconds the agent may take to read the last report."""


class Reporter:
    """Reports what a server does over the worker's end of the feed's socket pair."""

    def __init__(self, server: ProxyServer, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._writer = writer
        self._lines_dropped = 0

    async def run(self) -> None:
        """Report until cancelled; the first report says that this worker serves."""
        while True:
            self.report()
            await asyncio.sleep(INTERVAL)

    def report(self) -> None:
        """Report now, unless the agent has yet to read the last one: counts go on meanwhile."""
        transport = self._writer.transport
        if transport.is_closing() or transport.get_write_buffer_size():
            return
        observer = self._server.observer
        dropped = observer.lines_dropped - self._lines_dropped
        self._lines_dropped += dropped
        report = Report(
            counts=observer.statistics.take(),
            lines_dropped=dropped,
            connections=self._server.connection_count,
            endpoints=self._server.pool.health(),
        )
        self._writer.write(encode(report))

    async def finish(self) -> None:
        """Report for the last time, and close the connection."""
        self.report()
        self._writer.close()
        with contextlib.suppress(OSError):  # TimeoutError included: the agent is in no state
            async with asyncio.timeout(_FINISH_TIMEOUT):
                await self._writer.wait_closed()
