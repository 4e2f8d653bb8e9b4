"""Accepts connections for the admin listener, with limits of number, rate and time.

Any user of this host can connect to a port on loopback, and must not disturb the agent. So excess
connections wait in the kernel, new ones displace the oldest, and each has a time limit. If file
descriptors run out, the listener logs that once, and waits.

On the event loop.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from tornado.iostream import IOStream, SSLIOStream

from ovs_metadata.agent.allowance import Allowance
from ovs_metadata.problem_log import ProblemLog

LOG = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
"""Connections at once; one more closes the oldest."""

MAX_PER_PEER = 8
"""Connections of one IP address; one more closes the oldest of that address. The limit keeps a
scraper that loops from crowding out the others. It stops no attacker, who has all of
127.0.0.0/8."""

AT_ONCE = 64
PER_SECOND = 20.0
"""Connections that are accepted at once, and in the long run."""

MAX_SECONDS = 30.0
"""Seconds a connection may last, which has one request."""

PAUSE = 0.5
"""Seconds without accepting, after too many connections or a lack of file descriptors."""


class _WatchedStream(IOStream):
    """A connection that reports its end by `forget`: the server uses the stream's own callback."""

    forget: Callable[[], object]

    def close_fd(self) -> None:
        """Close it."""
        super().close_fd()
        self.forget()


class _WatchedTlsStream(_WatchedStream, SSLIOStream):
    """The same over TLS."""


class LimitedListener:
    """Accepts the connections of one listening socket, from `open` to `close`."""

    def __init__(
        self,
        listener: socket.socket,
        on_connection: Callable[[IOStream, Any], object],
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        """Make it.

        Args:
            listener: the listening socket.
            on_connection: serves a connection, given the stream and the peer's address.
            context: returns the TLS of the next connection; None without TLS.
        """
        self._context = context
        self._listener = listener
        self._let_in = on_connection
        self._loop = asyncio.get_running_loop()
        self._allowance = Allowance(AT_ONCE, PER_SECOND, self._loop.time())
        self._streams: dict[IOStream, tuple[str, asyncio.TimerHandle]] = {}
        self._paused: asyncio.TimerHandle | None = None
        self._problem = ProblemLog(
            LOG, "the admin listener accepts no connections at present: %s", level=logging.ERROR
        )

    def open(self) -> None:
        """Begin to accept."""
        self._paused = None
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept no more, and close what is open."""
        self._loop.remove_reader(self._listener)
        if self._paused:
            self._paused.cancel()
        self._listener.close()
        for stream in list(self._streams):
            stream.close()

    def _accept(self) -> None:
        if not self._allowance.take(self._loop.time()):
            self._pause()
            return
        try:
            connection, address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor or no memory for it
            self._problem.found([str(error)])
            self._pause()
            return
        self._problem.found()
        peer = address[0] if isinstance(address, tuple) else ""
        self._make_room(peer)
        try:
            stream = self._stream(connection)
        except OSError:  # the peer has gone already
            connection.close()
            return
        timer = self._loop.call_later(MAX_SECONDS, stream.close)
        self._streams[stream] = (peer, timer)
        stream.forget = lambda: self._forget(stream)
        self._let_in(stream, address)

    def _stream(self, connection: socket.socket) -> _WatchedStream:
        context = self._context()
        if context is None:
            return _WatchedStream(connection)
        connection.setblocking(False)
        wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return _WatchedTlsStream(wrapped, ssl_options=context)

    def _make_room(self, peer: str) -> None:
        """Close the oldest connections, of this peer or of all, if there are too many."""
        same = [stream for stream, (other, _) in self._streams.items() if peer and other == peer]
        for stream in same[: max(0, len(same) - MAX_PER_PEER + 1)]:
            stream.close()  # which forgets it
        while len(self._streams) >= MAX_CONNECTIONS:
            next(iter(self._streams)).close()

    def _forget(self, stream: IOStream) -> None:
        _, timer = self._streams.pop(stream, ("", None))
        if timer:
            timer.cancel()

    def _pause(self) -> None:
        self._loop.remove_reader(self._listener)
        self._paused = self._loop.call_later(PAUSE, self.open)
