"""Sends the worker's reports to the agent, and notices when the agent takes none.

Belongs to the event loop's thread.
"""

import asyncio
import logging

from ovs_metadata.proxy.accounting.report import Report, encode
from ovs_metadata.proxy.control.feed_connection import FeedConnection
from ovs_metadata.proxy.server import ProxyServer

LOG = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two reports. If a worker is killed, its counts since the last report are lost."""

SILENT_AFTER = 5
"""Intervals without the agent's heartbeat (it takes a report), after which the agent hangs."""

_FINISH_TIMEOUT = 1.0
"""Seconds the agent may take to read the last report."""


class Reporter:
    """Reports a server's counts over the worker's end of the feed's socket pair."""

    def __init__(self, server: ProxyServer, feed: FeedConnection) -> None:
        self._server = server
        self._feed = feed
        self._lines_dropped = 0
        self._untaken = 0  # intervals since the last report, until the agent takes it
        self._agent_silent = 0

    async def run(self) -> None:
        """Report until cancelled; by the first report the agent knows that this worker serves."""
        while True:
            if self._untaken:
                self._wait_on()
            else:
                self.report()
            await asyncio.sleep(INTERVAL)

    def taken(self) -> None:
        """The agent has read the last report."""
        if self._untaken > SILENT_AFTER:
            LOG.warning("the agent's heartbeat is back after %d s", self._untaken)
        self._untaken = 0

    def _wait_on(self) -> None:
        """Wait another interval for the agent; counting continues."""
        self._untaken += 1
        if self._untaken > SILENT_AFTER:
            self._agent_silent += 1
        if self._untaken == SILENT_AFTER + 1:
            LOG.warning(
                "no heartbeat of the agent: guests get no response, because no identity can be "
                "confirmed"
            )

    def report(self) -> None:
        """Report now."""
        if self._feed.closed:
            return
        observer = self._server.observer
        dropped = observer.lines_dropped - self._lines_dropped
        self._lines_dropped += dropped
        report = Report(
            counts=observer.statistics.take(),
            lines_dropped=dropped,
            connections=self._server.connection_count,
            endpoints=self._server.pool.health(),
            agent_silent=self._agent_silent,
        )
        self._agent_silent = 0
        self._untaken = 1
        self._feed.write(encode(report))

    async def finish(self) -> None:
        """Send the last report, and close the connection."""
        self.report()
        self._feed.close()
        await asyncio.wait([self._feed.lost], timeout=_FINISH_TIMEOUT)
