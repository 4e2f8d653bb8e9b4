"""The proxy server: listening sockets, one clock for all deadlines, stopping.

It has the interface of `tornado.tcpserver.TCPServer` (bind, add_socket, add_sockets, start, stop)
and runs on Tornado's IOLoop. Its connections are asyncio protocols on the same loop (uvloop in the
command): docs/architecture.md says what each of Tornado's layers would cost. All of it runs on the
loop's thread; it lives as long as the worker.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterable
from typing import cast

from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.platform.asyncio import BaseAsyncIOLoop

from ovs_metadata.proxy.accounting.observer import Observer
from ovs_metadata.proxy.control.confirmation import Confirmations
from ovs_metadata.proxy.control.identity import IdentityTable
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.guest.connection import GuestConnection, GuestContext
from ovs_metadata.proxy.guest.limits import ConnectionRegistry
from ovs_metadata.proxy.guest.quarantine import Quarantine
from ovs_metadata.proxy.nova.pool import UpstreamPool

_log = logging.getLogger(__name__)

_BACKLOG = 1024
RECEIVE_BUFFER = 16 * 1024
"""Bytes of a guest's input that the kernel keeps (socket(7); it doubles the number). Guests send
little, and the event loop must not read a flood by the quarter megabyte."""
SEND_BUFFER = 128 * 1024
"""Bytes of output that the kernel keeps for a guest. Its default is up to 4 MiB for each connection
(tcp_wmem). Doubled, the number has room for one read of the event loop from Nova."""
_SWEEP_INTERVAL = 0.1
"""Seconds between two checks of the deadlines: a timeout is at most so late."""
_IDLE_SWEEP_INTERVAL = 1.0
"""The same while there is neither a connection of a guest nor a port in quarantine."""


class ProxyServer:
    """Serves metadata on the ports it is bound to and the sockets it is given.

    It belongs to the current IOLoop, which may be started later.
    """

    def __init__(
        self,
        settings: Settings,
        table: IdentityTable,
        observer: Observer | None = None,
        *,
        confirmations: Confirmations | None = None,
    ) -> None:
        self._loop = loop = cast("BaseAsyncIOLoop", IOLoop.current()).asyncio_loop
        registry: ConnectionRegistry[GuestConnection] = ConnectionRegistry(
            lambda function: loop.call_later(self._context.settings.turn_pause, function)
        )
        self._context = GuestContext(
            settings=settings,
            table=table,
            pool=UpstreamPool(settings, now=loop.time),
            registry=registry,
            quarantine=Quarantine(),
            observer=observer or Observer(settings),
            confirmations=confirmations or Confirmations(),
            now=loop.time,
        )
        self._registry = registry
        self._emptied = asyncio.Event()
        self._without_descriptors = False
        self._sockets: list[socket.socket] = []
        self._listeners: list[asyncio.Server] = []
        self._starting: asyncio.Task[None] | None = None
        self._next_sweep: asyncio.TimerHandle | None = None
        self._idle = False
        table.subscribe(registry.identity_changed)

    def bind(  # noqa: PLR0917 - the signature is Tornado's
        self,
        port: int,
        address: str | None = None,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        backlog: int = _BACKLOG,
        flags: int | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Serve a port from `start` on; the arguments are those of `tornado.netutil.bind_sockets`.

        Raises:
            OSError: the port is not free, or the address is not of this host.
        """
        self.add_sockets(bind_sockets(port, address, family, backlog, flags, reuse_port))

    def add_socket(self, listener: socket.socket) -> None:
        """Serve on a bound TCP socket from `start` on; `stop` closes it."""
        self.add_sockets([listener])

    def add_sockets(self, listeners: Iterable[socket.socket]) -> None:
        """Serve on bound TCP sockets from `start` on; `stop` closes them."""
        self._sockets.extend(listeners)

    def start(self) -> "asyncio.Task[None]":
        """Begin to accept connections, as soon as the event loop runs.

        Returns:
            A task that is done when connections are accepted. It need not be awaited.

        Raises:
            OSError: the kernel refuses to listen on a socket.
        """
        self._sweep_after(_SWEEP_INTERVAL)
        self._context.quarantine.guard(tuple(self._sockets))
        for listener in self._sockets:
            listener.setblocking(False)
            # For connections that the kernel accepts from now on.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            listener.listen(_BACKLOG)
        self._starting = self._loop.create_task(self._accept(tuple(self._sockets)))
        return self._starting

    async def _accept(self, sockets: Iterable[socket.socket]) -> None:
        for each in sockets:
            # A duplicate, which can be closed while guests wait in the kernel: see `_pause`.
            listener = await self._loop.create_server(
                self._connected, sock=each.dup(), backlog=_BACKLOG
            )
            self._listeners.append(listener)

    def _connected(self) -> GuestConnection:
        """The protocol of a new connection, whose deadlines are checked from now on."""
        if self._idle:
            self._sweep_after(_SWEEP_INTERVAL)
        return GuestConnection(self._context)

    def apply(self, settings: Settings) -> None:
        """Use these settings for every request from now on.

        Raises:
            TlsError: a PEM text in them is unusable; the old settings stay effective.
        """
        self._context.pool.apply(settings)
        self._context.settings = settings
        self._context.observer.apply(settings)
        self._registry.admit(settings.max_requests_per_port)

    @property
    def observer(self) -> Observer:
        """The counters of requests."""
        return self._context.observer

    @property
    def pool(self) -> UpstreamPool:
        """The connections to Nova."""
        return self._context.pool

    @property
    def settings(self) -> Settings:
        """The effective settings."""
        return self._context.settings

    @property
    def connection_count(self) -> int:
        """The number of open guest connections."""
        return len(self._registry)

    def _pause(self) -> None:
        """Accept no connections; those that guests begin wait in the kernel."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def _resume(self) -> None:
        """Accept connections again, or at the next look if there are no descriptors for that."""
        try:
            await self._accept(tuple(self._sockets))
        except OSError:
            self._pause()
        else:
            self._without_descriptors = False

    def stop(self) -> None:
        """Accept no more connections; open connections continue."""
        if self._starting is not None:
            self._starting.cancel()
        self._pause()
        self._context.quarantine.guard(())
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    async def drain(self) -> bool:
        """Stop, and let requests in flight finish within the drain timeout.

        Returns:
            Whether all of them finished; the others were cut off.
        """
        self.stop()
        self._sweep_after(_SWEEP_INTERVAL)
        self._context.draining = True
        for connection in self._registry:
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._context.settings.drain_timeout):
                self._emptied.clear()
                await self._emptied.wait()
        finished = not self._registry
        self.close()
        return finished

    def close(self) -> None:
        """Stop at once, and cut off every connection."""
        self.stop()
        if self._next_sweep is not None:
            self._next_sweep.cancel()
        for connection in self._registry:
            connection.cut_off()
        self._context.pool.close()
        self._context.observer.flush()

    def _sweep_after(self, seconds: float) -> None:
        if self._next_sweep is not None:
            self._next_sweep.cancel()
        self._idle = seconds > _SWEEP_INTERVAL
        self._next_sweep = self._loop.call_later(seconds, self._sweep)

    def _is_busy(self) -> bool:
        waits = self._context.draining or self._without_descriptors
        return bool(self._registry or self._context.quarantine or waits)

    def _sweep(self) -> None:
        # First, so that an error below ends no later sweep.
        self._sweep_after(_SWEEP_INTERVAL if self._is_busy() else _IDLE_SWEEP_INTERVAL)
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = [each for each in self._registry if each.deadline <= now]
        for index, connection in enumerate(late):
            # By the loop, so that an error with one does not spare the others; and spread over the
            # time until the next check, because one port may have all of them.
            loop.call_later(_SWEEP_INTERVAL * index / len(late), connection.deadline_passed)
        self._look_for_descriptors()
        self._registry.sweep(time.monotonic())
        self._context.pool.sweep(now)
        self._context.quarantine.sweep(now)
        self._context.observer.flush()
        if not self._registry:
            self._emptied.set()

    def _look_for_descriptors(self) -> None:
        """Accept no connections while there is no file descriptor for one; log it once.

        uvloop would try again and again.
        """
        # Those of the closed listeners are free, and are needed to accept again.
        wanted = 1 + (len(self._sockets) if self._without_descriptors else 0)
        spare: list[int] = []
        try:
            for listener in self._sockets[:1]:
                spare += [os.dup(listener.fileno()) for _ in range(wanted)]
        except OSError as error:
            if not self._without_descriptors:
                _log.warning(
                    "cannot accept a connection, for lack of a file descriptor: %s", error.strerror
                )
                self._without_descriptors = True
                self._pause()
        else:
            if self._without_descriptors and (self._starting is None or self._starting.done()):
                self._starting = self._loop.create_task(self._resume())
        finally:
            for each in spare:
                os.close(each)
