"""Accepts connections for the admin listener, with limits of number, rate and time.

Any user of this host can connect to a port on loopback, and must not disturb the agent. So excess
connections wait in the kernel, new ones displace the oldest, and each has a time limit. If file
descriptors run out, the listener logs that once, and waits.

A TLS handshake costs a processor milliseconds, and any host may begin one. So a handshake has a
shorter time limit, handshakes displace each other and no connection that has ended its own, and
each peer has a share of them: a connection beyond it is closed at once.

On the event loop.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tornado.iostream import IOStream, SSLIOStream

from ovs_metadata.agent.admin.peer_allowances import PeerAllowances
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

MAX_HANDSHAKES = 16
"""TLS handshakes at once; one more ends the oldest."""

HANDSHAKE_SECONDS = 5.0
"""Seconds a handshake may last."""

PEER_AT_ONCE = 16
PEER_PER_SECOND = 2.0
"""Handshakes of one peer, at once and in the long run."""

CLOSED_AT_ONCE = 500
CLOSED_PER_SECOND = 500.0
"""Connections that are closed because their peer has had its share."""

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


@dataclass(slots=True)
class _Connection:
    peer: str
    handshaking: bool
    timer: asyncio.TimerHandle


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
        now = self._loop.time()
        self._allowance = Allowance(AT_ONCE, PER_SECOND, now)
        self._shares = PeerAllowances(PEER_AT_ONCE, PEER_PER_SECOND)
        self._closings = Allowance(CLOSED_AT_ONCE, CLOSED_PER_SECOND, now)
        self._streams: dict[IOStream, _Connection] = {}
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
        context = self._context()
        if context and not self._shares.take(peer, self._loop.time()):
            connection.close()
            self._close_another()
            return
        self._make_room(peer, handshaking=context is not None)
        try:
            stream = _stream(connection, context)
        except OSError:  # the peer has gone already
            connection.close()
            return
        seconds = MAX_SECONDS if context is None else HANDSHAKE_SECONDS
        timer = self._loop.call_later(seconds, stream.close)
        self._streams[stream] = _Connection(peer, context is not None, timer)
        stream.forget = lambda: self._forget(stream)
        if isinstance(stream, _WatchedTlsStream):
            ended = stream.wait_for_handshake()
            ended.add_done_callback(lambda future: self._handshake_ended(stream, future))
        self._let_in(stream, address)

    def _close_another(self) -> None:
        """Count a connection that was closed at once. It leaves the others their rate."""
        now = self._loop.time()
        self._allowance.spend(-1, now)
        if not self._closings.take(now):
            self._pause()

    def _handshake_ended(self, stream: IOStream, future: asyncio.Future[Any]) -> None:
        found = self._streams.get(stream)
        if future.cancelled() or future.exception() or found is None:
            return
        found.timer.cancel()
        self._close_oldest(MAX_CONNECTIONS - 1, handshaking=False)
        found.timer = self._loop.call_later(MAX_SECONDS, stream.close)
        found.handshaking = False

    def _make_room(self, peer: str, *, handshaking: bool) -> None:
        """Close the oldest connections, of this peer or of all, if there are too many."""
        same = [stream for stream, each in self._streams.items() if peer and each.peer == peer]
        same.sort(key=lambda stream: not self._streams[stream].handshaking)
        for stream in same[: max(0, len(same) - MAX_PER_PEER + 1)]:
            stream.close()  # which forgets it
        most = MAX_HANDSHAKES if handshaking else MAX_CONNECTIONS
        self._close_oldest(most - 1, handshaking=handshaking)

    def _close_oldest(self, most: int, *, handshaking: bool) -> None:
        """Close the oldest connections, in a handshake or after it, until so many are left."""
        found = [
            stream for stream, each in self._streams.items() if each.handshaking is handshaking
        ]
        for stream in found[: max(0, len(found) - most)]:
            stream.close()

    def _forget(self, stream: IOStream) -> None:
        found = self._streams.pop(stream, None)
        if found:
            found.timer.cancel()

    def _pause(self) -> None:
        self._loop.remove_reader(self._listener)
        self._paused = self._loop.call_later(PAUSE, self.open)


def _stream(connection: socket.socket, context: ssl.SSLContext | None) -> _WatchedStream:
    if context is None:
        return _WatchedStream(connection)
    connection.setblocking(False)
    wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    return _WatchedTlsStream(wrapped, ssl_options=context)
