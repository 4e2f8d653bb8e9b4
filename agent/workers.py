"""Proxy workers and what they are told: the identity table and the settings.

Each worker gets its listening sockets, and one end of a socket pair over which it is fed: a
snapshot first, then every change as it happens. A worker without a feed stops serving, so the
agent's end of the pair lives exactly as long as the agent does. All on the event loop.
"""

import asyncio
import contextlib
import functools
import logging
import socket
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence

from ovs_metadata.agent.children import PYTHON, keep_running
from ovs_metadata.agent.identities import changes
from ovs_metadata.proxy import feed
from ovs_metadata.proxy.identity import Entry
from ovs_metadata.proxy.settings import Settings

LOG = logging.getLogger(__name__)

LARGEST_BACKLOG = 64 * 1024 * 1024
"""Bytes of feed a worker may leave unread; one that reads no more is of no use and is killed."""


class Workers:
    """The proxy workers of this host. `tell` may be called before and after `start`."""

    def __init__(self, user: str, settings: Settings) -> None:
        self._user = user
        self._settings = settings
        self._table: Mapping[str, Entry] = {}
        self._feeds: dict[int, tuple[Process, asyncio.StreamWriter]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners: list[socket.socket] = []

    @property
    def started(self) -> bool:
        """Whether workers have been started."""
        return bool(self._tasks)

    def start(self, listeners: Sequence[Sequence[socket.socket]]) -> None:
        """Start a worker for each group of listening sockets, and keep it running.

        The sockets stay open here too: connections that arrive while a worker is being started
        again wait for it.
        """
        patience = self._settings.drain_timeout + 2
        for number, group in enumerate(listeners):
            self._listeners += group
            start = functools.partial(self._spawn, number, group)
            task = keep_running(f"proxy worker {number}", start, patience)
            self._tasks.append(asyncio.create_task(task))

    async def stop(self) -> None:
        """End all workers; they finish the requests they have."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for number in list(self._feeds):
            self._close_feed(number)
        for listener in self._listeners:
            listener.close()
        self._tasks, self._listeners = [], []

    def tell(self, table: Mapping[str, Entry]) -> None:
        """Tell all workers what changed in the identity table."""
        messages = b"".join(
            feed.encode(feed.IdentityChange(address, entry))
            for address, entry in changes(self._table, table).items()
        )
        self._table = dict(table)
        for process, writer in self._feeds.values():
            if process.returncode is not None:
                continue  # the one that takes its place gets a snapshot
            if messages:
                writer.write(messages)
            if writer.transport.get_write_buffer_size() > LARGEST_BACKLOG:
                LOG.error("proxy worker, pid %d, does not read its feed: killed", process.pid)
                process.kill()

    async def _spawn(self, number: int, group: Sequence[socket.socket]) -> Process:
        """Start one worker and send it its snapshot."""
        ours, theirs = socket.socketpair()
        descriptors = [listener.fileno() for listener in group]
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(*PYTHON, "-m", "ovs_metadata.proxy.main"),
                *("--user", self._user, "--feed-fd", str(theirs.fileno())),
                *("--listen-fd", ",".join(map(str, descriptors))),
                pass_fds=[theirs.fileno(), *descriptors],
                stdin=asyncio.subprocess.DEVNULL,
            )
        _reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(feed.encode(feed.Snapshot(self._settings, self._table)))
        self._close_feed(number)
        self._feeds[number] = process, writer
        return process

    def _close_feed(self, number: int) -> None:
        _process, writer = self._feeds.pop(number, (None, None))
        if writer:
            with contextlib.suppress(OSError):
                writer.close()
