"""Proxy workers: starts them, and sends them the identity table and the settings.

Each worker gets its listening sockets and one end of a socket pair, its feed: a snapshot first,
then every change as it happens. A worker without a feed stops serving, so the agent's end of the
pair lives exactly as long as the agent. In the other direction, workers report what they count. All
on the event loop.
"""

import asyncio
import contextlib
import functools
import logging
import os
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence

from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.child_process import (
    PYTHON,
    Child,
    child,
    keep_running,
    start_child,
    workers_environment,
)
from ovs_metadata.agent.health import worker_name
from ovs_metadata.agent.heartbeat import Heartbeat
from ovs_metadata.agent.identities import changes
from ovs_metadata.agent.network.listeners import Listeners
from ovs_metadata.agent.worker_feed import WorkerFeed
from ovs_metadata.proxy.accounting import report
from ovs_metadata.proxy.control import feed
from ovs_metadata.proxy.control.identity import Entry
from ovs_metadata.proxy.control.settings import Settings

LOG = logging.getLogger(__name__)

Confirm = Callable[[Callable[[], None]], None]
"""Calls back, on the event loop, once workers have all that the sources had committed before."""


class Workers:
    """The proxy workers of this host. `update` may be called before and after `start`."""

    def __init__(
        self,
        user: str,
        settings: Settings,
        statistics: HostStatistics | None = None,
        *,
        confirm: Confirm | None = None,
    ) -> None:
        """Make them; `statistics` gets their reports, and `confirm` confirms identities."""
        self._confirm = confirm
        self._unconfirmed: list[WorkerFeed] = []
        self._confirming: list[WorkerFeed] = []
        self._user = user
        self._statistics = statistics or HostStatistics()
        self._settings = settings
        self._table: Mapping[str, Entry] = {}
        self._feeds: dict[int, WorkerFeed] = {}
        self._heartbeats: dict[int, Heartbeat] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners = Listeners([])

    @property
    def started(self) -> bool:
        """Whether workers have been started."""
        return bool(self._tasks)

    @property
    def wanted(self) -> int:
        """The number of workers that should serve."""
        return len(self._tasks)

    def children(self) -> list[Child]:
        """The worker processes, also those that exited and are not restarted yet."""
        feeds = sorted(self._feeds.items())
        return [
            child(worker_name(number), each.process, self._heartbeats[number])
            for number, each in feeds
        ]

    def start(
        self,
        groups: Sequence[Sequence[socket.socket]],
        reopen: Callable[[int], Sequence[socket.socket]] | None = None,
    ) -> None:
        """Start a worker for each group of listening sockets, and keep it running.

        `reopen` opens new ones for a worker whose predecessor may have changed them.

        The sockets stay open here too: connections that arrive during a worker's restart wait in
        them.
        """
        self._listeners = Listeners(groups, reopen)
        for number in range(len(self._listeners)):
            start = functools.partial(self._spawn, number)
            heartbeat = self._heartbeats[number] = Heartbeat(functools.partial(self._hung, number))
            task = keep_running(worker_name(number), start, self._stop_timeout, heartbeat)
            self._tasks.append(asyncio.create_task(task))

    def _hung(self, number: int) -> None:
        """A worker was killed because it hung: the cause may have changed its sockets, too."""
        self._statistics.child_hung("worker")
        self._listeners.distrust(number)

    async def stop(self) -> None:
        """End all workers; they finish the requests they have."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for number in list(self._feeds):
            self._close_feed(number)
        self._listeners.close()
        self._tasks = []

    def update(self, table: Mapping[str, Entry]) -> None:
        """Send the changes of the identity table to all workers. The caller keeps it as it is."""
        changed = changes(self._table, table)
        if not changed:
            return
        messages = b"".join(
            feed.encode(feed.IdentityChange(address, entry)) for address, entry in changed.items()
        )
        self._table = table
        self._statistics.table_changed(self._table)
        for each in self._feeds.values():
            # The successor of an exited worker gets a snapshot.
            if each.process.returncode is None:
                each.write(messages)

    def apply(self, settings: Settings) -> None:
        """Have all workers use these settings, for every request from now on."""
        self._settings = settings
        message = feed.encode(feed.SettingsChange(settings))
        for each in self._feeds.values():
            if each.process.returncode is None:
                each.write(message)

    def _asked_to_confirm(self, worker: WorkerFeed) -> None:
        """A worker asks for a confirmation.

        Raises:
            ReportError: it waits for one already.
        """
        if worker in self._unconfirmed or worker in self._confirming:
            raise report.ReportError("it asks for two confirmations at once")
        self._unconfirmed.append(worker)
        if not self._confirming:
            self._begin_to_confirm()

    def _begin_to_confirm(self) -> None:
        """Confirm to the workers that have asked so far. Later ones wait for the next round."""
        if self._confirm is not None:
            self._confirming, self._unconfirmed = self._unconfirmed, []
            self._confirm(self._confirmed)

    def _confirmed(self) -> None:
        message = feed.encode(feed.Confirmed())
        for worker in self._confirming:
            worker.write(message)
        self._confirming = []
        if self._unconfirmed:
            self._begin_to_confirm()

    def _stop_timeout(self) -> float:
        """Seconds that a worker may take to finish its requests, by its present settings."""
        return self._settings.drain_timeout + 2

    async def _spawn(self, number: int) -> Process:
        """Start one worker and send it its snapshot."""
        group = await asyncio.to_thread(self._listeners.of, number)
        ours, theirs = socket.socketpair()
        descriptors = [listener.fileno() for listener in group]
        with theirs:
            process = await start_child(
                worker_name(number),
                *(*PYTHON, "-m", "ovs_metadata.proxy.main"),
                *("--user", self._user, "--feed-fd", str(theirs.fileno())),
                *("--listen-fd", ",".join(map(str, descriptors))),
                pass_fds=[theirs.fileno(), *descriptors],
                cwd="/",
                env=workers_environment(os.environ),
            )
        loop = asyncio.get_running_loop()
        _, worker = await loop.create_connection(
            lambda: WorkerFeed(self, number, process), sock=ours
        )
        worker.write(feed.encode(feed.FullState(self._settings, self._table)))
        if number in self._feeds:
            self._statistics.worker_restarted()
        self._close_feed(number)
        self._feeds[number] = worker
        return process

    # Called by a worker's feed.

    def line_received(self, worker: WorkerFeed, line: bytes) -> None:
        """Confirm, or take a report.

        Raises:
            ReportError: a sound worker does not send this, or not so often.
        """
        if line == feed.ASK_TO_CONFIRM:
            self._asked_to_confirm(worker)
            return
        if not worker.reports.take(asyncio.get_running_loop().time()):
            raise report.ReportError("it reports too often")
        urls = {str(endpoint) for endpoint in self._settings.endpoints}
        self._statistics.report(worker.number, report.decode(line).about(urls))
        self._heartbeats[worker.number].received()
        worker.write(feed.encode(feed.ReportTaken()))

    def worker_refused(self, worker: WorkerFeed, error: Exception) -> None:
        """Kill a worker that sent invalid data. A sound worker of this version sends none."""
        LOG.error(
            "proxy worker %d, pid %d, sent an invalid report (%s): killing it",
            *(worker.number, worker.process.pid, error),
        )
        self._statistics.report_refused()
        self._kill(worker)

    def worker_deaf(self, worker: WorkerFeed) -> None:
        """Kill a worker that does not read: it is useless, and its feed fills our memory."""
        LOG.error("proxy worker, pid %d, does not read its feed: killing it", worker.process.pid)
        self._kill(worker)

    def worker_silenced(self, worker: WorkerFeed) -> None:
        """Count the worker as not serving."""
        self._statistics.worker_ended(worker.number)

    def _kill(self, worker: WorkerFeed) -> None:
        self._listeners.distrust(worker.number)
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()

    def _close_feed(self, number: int) -> None:
        worker = self._feeds.pop(number, None)
        if worker is not None:
            worker.close()
