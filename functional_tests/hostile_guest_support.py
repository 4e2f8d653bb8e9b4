"""What the tests of hostile guests share: a proxy process, guests' connections, an attacker."""

import contextlib
import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.attack.hostile_guest import BIG
from lab.rig.process import Process
from lab.rig.proxy_process import ProxyProcess, guest_address
from lab.stand_ins.upstream_recorder import Recorded, Reply, UpstreamRecorder, usual_reply

DEADLINE = 20.0
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
HOSTILE, BYSTANDER = 2, 3
BIG_SIZE = 16 * 1024 * 1024

QUICK: dict[str, Any] = {
    "idle_timeout": 1.0,
    "head_timeout": 1.0,
    "body_timeout": 1.0,
    "send_timeout": 1.0,
    "linger_timeout": 0.3,
    "quarantine": 1.0,
}
"""Timeouts a test can wait for."""

MEMORY_GROWTH = 48.0
"""MiB a worker may grow by, whatever one guest does. 64 connections, each with a head of 64 KiB, a
body of 1 MiB or a full output buffer: bodies are by far the most, and 64 of them would be 64 MiB;
the acts here hold fewer at a time."""

Start = Callable[..., ProxyProcess]


def respond(request: Recorded) -> Reply:
    if request.target != BIG.encode():
        return usual_reply(request)
    return Reply((b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG_SIZE, BIG_SIZE * b"x"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a proxy with these settings, in front of a Nova; it must be well at the end."""
    with contextlib.ExitStack() as stack:
        nova = stack.enter_context(UpstreamRecorder(respond))
        proxies: list[ProxyProcess] = []

        def start_proxy(**settings: Any) -> ProxyProcess:
            proxy = ProxyProcess(
                tmp_path,
                python=sys.executable,
                nova=nova.url,
                guests=range(2, 10),
                addresses={"::1": HOSTILE},
                listen=("0.0.0.0", "::1"),
                access_log="off",
                **QUICK | settings,
            )
            proxies.append(stack.enter_context(proxy))
            return proxy

        yield start_proxy
        for proxy in proxies:
            assert proxy.alive()
            assert proxy.complaints() == []
        assert nova.problems == []


class Talk:
    """A guest's connection."""

    def __init__(self, proxy: ProxyProcess, number: int, *, ipv6: bool = False) -> None:
        address = "::1" if ipv6 else guest_address(number)
        self.sock = socket.create_connection((address, proxy.port), DEADLINE)

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def answer(self) -> tuple[int, bytes]:
        """Read one answer that has a length; return its status and its head."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(65536)
            assert piece, f"the connection ended after {data!r}"
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        found = re.search(rb"\r\nContent-Length: ([0-9]+)", head)
        assert found, head
        missing = int(found[1]) - len(body)
        while missing > 0:
            missing -= len(self.sock.recv(missing))
        return int(head.split(b" ")[1]), head

    def ask(self) -> tuple[int, bytes]:
        """Ask once on this connection."""
        self.sock.sendall(GET)
        return self.answer()

    def rest(self) -> bytes:
        """Everything up to the end of the connection, proper or not."""
        data = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := self.sock.recv(1 << 20):
                data += piece
        return bytes(data)


def ask(proxy: ProxyProcess, number: int = BYSTANDER, *, ipv6: bool = False) -> int:
    """Ask on a connection of its own; return the status, 0 if there is no answer."""
    try:
        with Talk(proxy, number, ipv6=ipv6) as talk:
            return talk.ask()[0]
    except ConnectionError:
        return 0


@contextlib.contextmanager
def attack(
    log: Path, target: str, *acts: str, seconds: float, width: int, namespace: str = ""
) -> Iterator[Process]:
    """A hostile guest in a process of its own, and perhaps in a `namespace`."""
    command = ("-m", "lab.attack.hostile_guest", "--target", target, "--seconds", str(seconds))
    process = Process(
        [sys.executable, *command, "--width", str(width), *acts],
        log,
        env={"PYTHONPATH": str(Path(__file__).parent.parent / "tools")},
        namespace=namespace or None,
    )
    try:
        yield process
    finally:
        process.stop()


def tally(attacker: Process) -> dict[str, int]:
    """What a hostile guest that has ended says it did."""
    assert attacker.wait(60) == 0, attacker.log_tail()
    # asyncio may have had something to say at the very end, of connections that were reset.
    (line,) = (line for line in attacker.log.read_text().splitlines() if line.startswith("{"))
    result: dict[str, int] = json.loads(line)
    return result
