"""The load of `benchmarks/proxy`: a process that asks from many addresses and checks all answers.

A closed loop: each of `connections` asks, waits for its whole answer, and asks again, as the next
of the peers when each request has a connection of its own, always as the same peer otherwise.
One thread on epoll and bare sockets, because what the load costs is taken from the same processors
that the targets need. The job comes as one line of JSON on the standard input; after some requests
that do not count it prints "ready", waits for the line "go", and prints the result, when no
request is under way any more. It lives until then.
"""

import errno
import gc
import json
import re
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

PAUSE = 0.1
"""Seconds a connection rests after an error: no client repeats a refused request at once."""

PATIENCE = 10.0
"""Seconds without any event after which what is still unanswered counts as errors."""

# linux/in.h: a port is chosen by connect(), among those free towards that destination.
_IP_BIND_ADDRESS_NO_PORT = 24

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Peer(NamedTuple):
    """A guest: its address, what it sends (taken in turn), and what each answer must begin with."""

    address: str
    requests: Sequence[bytes]
    expected: bytes


@dataclass(frozen=True)
class Job:
    """What to do; times in seconds. Every answer must be a 200 with `length` bytes of body."""

    port: int
    connections: int
    keep_alive: bool
    warm_up: float
    duration: float
    length: int
    identities: dict[str, str]
    """Peer address → the identity its answers must begin with."""
    paths: list[str]
    headers: str
    """Header lines of every request, each with its CRLF."""
    show_identity: bool
    """Have the peers say who they are, for there is no proxy to say it."""

    def peers(self) -> list[Peer]:
        """Who asks, with all requests written out."""
        return [
            Peer(address, [self._request(path, name) for path in self.paths], name.encode())
            for address, name in self.identities.items()
        ]

    def _request(self, path: str, identity: str) -> bytes:
        shown = f"X-Instance-ID: {identity}\r\n" if self.show_identity else ""
        return f"GET {path} HTTP/1.1\r\n{self.headers}{shown}\r\n".encode()


@dataclass(frozen=True)
class Result:
    """The figures of a run. Latencies in ms include making a new connection."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int
    first_error: str


def check_answer(data: bytes, length: int, expected: bytes) -> bool:
    """Tell whether `data` is a whole answer, False if there is more to come.

    Raises:
        ValueError: it is not what was asked for; the message says why.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    if not data.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
        raise ValueError(f"answered {head.partition(bytes([13]))[0]!r}")
    found = _LENGTH.search(head + b"\r\n")
    if found is None or int(found[1]) != length:
        raise ValueError(f"Content-Length is {found and int(found[1])}, not {length}")
    if len(body) < length:
        return False
    if len(body) > length or not body.startswith(expected):
        raise ValueError(f"the body begins {body[:40]!r}, not {expected!r}, or is too long")
    return True


class _Connection:
    """One of the concurrent connections: its socket, and the request under way, if any."""

    __slots__ = ("begun", "data", "peer", "request", "sock", "turn")

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.sock: socket.socket | None = None
        self.begun = 0.0
        self.data = b""
        self.peer = Peer("", (), b"")
        self.request = b""


class Load:
    """The connections of a job, and what has been counted."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._peers = job.peers()
        self._epoll = select.epoll()
        self._connections = [_Connection(turn) for turn in range(job.connections)]
        self._busy: dict[int, _Connection] = {}
        self._resting: deque[_Connection] = deque()
        self._latencies: list[float] = []
        self._errors = 0
        self._first_error = ""
        self._until = 0.0

    def run(self, seconds: float) -> Result:
        """Ask for that long, and return when everything asked is answered or has failed."""
        self._latencies.clear()
        begun = time.perf_counter()
        self._until = begun + seconds
        for connection in self._connections:
            self._ask(connection)
        while self._busy or self._resting:
            events = self._epoll.poll(PAUSE if self._resting else PATIENCE)
            if not events and not self._resting:
                self._give_up()
            for number, event in events:
                self._on_event(self._busy[number], event)
            while self._resting and self._resting[0].begun + PAUSE <= time.perf_counter():
                self._ask(self._resting.popleft())
        taken = time.perf_counter() - begun
        ordered = sorted(self._latencies) or [0.0]
        return Result(
            requests=len(self._latencies),
            seconds=taken,
            p50=1000 * ordered[len(ordered) // 2],
            p99=1000 * ordered[-(-99 * len(ordered) // 100) - 1],
            errors=self._errors,
            first_error=self._first_error,
        )

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            self._disconnect(connection)
        self._epoll.close()

    def _ask(self, connection: _Connection) -> None:
        """Send the next request, over a new connection if there is none."""
        connection.begun = time.perf_counter()
        if connection.begun >= self._until:
            return
        connection.turn += len(self._connections)
        connection.data = b""
        sock = connection.sock
        try:
            if sock is None:
                connection.peer = self._peers[connection.turn % len(self._peers)]
                sock = connection.sock = self._connect(connection.peer.address)
            requests = connection.peer.requests
            connection.request = requests[connection.turn % len(requests)]
            self._busy[sock.fileno()] = connection
            self._send(connection, sock)
        except OSError as error:
            self._failed(connection, f"{type(error).__name__}: {error}")

    def _connect(self, address: str) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Some targets tell guests by the source, others by the destination.
        sock.bind((address, 0))
        code = sock.connect_ex((address, self._job.port))
        if code not in {0, errno.EINPROGRESS}:
            sock.close()
            raise OSError(code, f"connecting to {address}: {errno.errorcode[code]}")
        self._epoll.register(sock, select.EPOLLIN)
        return sock

    def _send(self, connection: _Connection, sock: socket.socket) -> None:
        # On loopback a connection is mostly there at once, and there is nothing to wait for.
        try:
            sent = sock.send(connection.request)
        except BlockingIOError:
            self._epoll.modify(sock, select.EPOLLOUT)
            return
        if sent != len(connection.request):
            raise OSError(f"only {sent} bytes of a request were taken")

    def _on_event(self, connection: _Connection, event: int) -> None:
        sock = connection.sock
        if sock is None:
            raise RuntimeError("an event of a connection that is closed")
        try:
            if event & select.EPOLLOUT:
                self._epoll.modify(sock, select.EPOLLIN)
                self._send(connection, sock)
                return
            data = sock.recv(65536)
            if not data:
                self._failed(connection, f"closed after {len(connection.data)} bytes")
                return
            connection.data = connection.data + data if connection.data else data
            if check_answer(connection.data, self._job.length, connection.peer.expected):
                self._answered(connection, sock)
        except (OSError, ValueError) as error:
            self._failed(connection, f"{type(error).__name__}: {error}")

    def _answered(self, connection: _Connection, sock: socket.socket) -> None:
        self._latencies.append(time.perf_counter() - connection.begun)
        del self._busy[sock.fileno()]
        if not self._job.keep_alive:
            self._disconnect(connection)
        self._ask(connection)

    def _failed(self, connection: _Connection, why: str) -> None:
        self._errors += 1
        self._first_error = self._first_error or why
        self._disconnect(connection)
        connection.begun = time.perf_counter()
        self._resting.append(connection)

    def _give_up(self) -> None:
        self._until = 0.0
        for connection in list(self._busy.values()):
            self._failed(connection, f"no answer within {PATIENCE:g} s")

    def _disconnect(self, connection: _Connection) -> None:
        if connection.sock is not None:
            # Closing takes it out of epoll, too.
            self._busy.pop(connection.sock.fileno(), None)
            connection.sock.close()
            connection.sock = None


def main() -> int:
    """Do the job on the standard input."""
    job = Job(**json.loads(sys.stdin.readline()))
    load = Load(job)
    gc.disable()
    try:
        load.run(job.warm_up)
        print("ready", flush=True)
        if sys.stdin.readline() != "go\n":
            return 1
        print(json.dumps(asdict(load.run(job.duration))), flush=True)
    finally:
        load.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
