"""The agent's end of a worker's feed: what is written to one worker, and the lines that it sends.

On the event loop. Lives as long as the worker's process, or until another takes its place.
"""

import asyncio
from asyncio.subprocess import Process
from typing import Protocol

from ovs_metadata.agent.allowance import Allowance
from ovs_metadata.proxy.accounting import report
from ovs_metadata.proxy.control.lines import LineConnection, LineTooLongError

REPORTS_AT_ONCE = 10
REPORTS_PER_SECOND = 2.0
"""How many reports a worker may send, however long it sent none: it sends one a second."""

MAX_BACKLOG = 64 * 1024 * 1024
"""Bytes that a worker may leave unread."""


class Owner(Protocol):
    """The object that started the worker."""

    def line_received(self, feed: "WorkerFeed", line: bytes) -> None:
        """Take a line, with its newline. Raises `ReportError` to refuse the line and the worker."""

    def worker_refused(self, feed: "WorkerFeed", error: Exception) -> None:
        """A line is invalid or too long. No further line is read."""

    def worker_deaf(self, feed: "WorkerFeed") -> None:
        """The worker does not read its feed. Nothing more is written."""

    def worker_silenced(self, feed: "WorkerFeed") -> None:
        """No further line will come: the worker was refused, or has exited."""


class WorkerFeed(LineConnection):
    """The feed of one worker."""

    def __init__(self, owner: Owner, number: int, process: Process) -> None:
        """Make it, for the worker of this number."""
        super().__init__(report.MAX_LINE)
        self.number = number
        self.process = process
        self.reports = Allowance(
            REPORTS_AT_ONCE, REPORTS_PER_SECOND, asyncio.get_running_loop().time()
        )
        """How many more reports it may send."""
        self._owner = owner
        self._silenced = False

    @property
    def unread(self) -> int:
        """Bytes that wait for the worker in this process; the kernel holds others."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def write(self, data: bytes) -> None:
        """Send bytes, unless the worker has ended or does not read."""
        super().write(data)
        if self._transport is not None and not self.closed and self.unread > MAX_BACKLOG:
            self._transport.abort()
            self._owner.worker_deaf(self)

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        """Hand over the lines that are whole."""
        try:
            for line in self._lines.feed(data):
                self._owner.line_received(self, line)
        except (report.ReportError, LineTooLongError) as error:
            if self._transport is not None:
                self._transport.pause_reading()
            self._owner.worker_refused(self, error)
            self._silence()

    def eof_received(self) -> bool:
        """Note that the worker sends no more. The owner closes the feed."""
        self._silence()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Note that the worker has ended."""
        self._transport = None
        self._silence()

    def _silence(self) -> None:
        if not self._silenced:
            self._silenced = True
            self._owner.worker_silenced(self)
