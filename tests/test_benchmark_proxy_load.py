"""The load generator of `benchmarks/proxy` counts what is right, and finds what is wrong."""

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

LOAD = Path(__file__).parents[1] / "benchmarks" / "proxy_load.py"
LENGTH = 100
PEERS = {f"127.16.0.{number}": f"instance-{number}" for number in range(1, 6)}


def answer(address: str) -> bytes:
    body = PEERS[address].ljust(LENGTH)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n{body}".encode()


class Server(socketserver.ThreadingTCPServer):
    """Answers every request with `reply`, or with what its peer expects; nothing: it closes."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, reply: bytes | None) -> None:
        super().__init__(("0.0.0.0", 0), Handler)
        self.reply = reply
        self.peers: set[str] = set()
        self.requests: list[bytes] = []


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        address = self.client_address[0]
        self.server.peers.add(address)
        while request := self._request():
            self.server.requests.append(request)
            reply = answer(address) if self.server.reply is None else self.server.reply
            if not reply:
                return
            self.wfile.write(reply)

    def _request(self) -> bytes:
        lines = []
        while line := self.rfile.readline():
            lines.append(line)
            if line == b"\r\n":
                break
        return b"".join(lines)


@contextmanager
def serving(reply: bytes | None) -> Iterator[Server]:
    with Server(reply) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def run_load(port: int, **changes: object) -> dict[str, Any]:
    job = {
        "port": port,
        "connections": 4,
        "keep_alive": False,
        "warm_up": 0.05,
        "duration": 0.2,
        "length": LENGTH,
        "identities": PEERS,
        "paths": ["/openstack", "/latest"],
        "headers": "Host: 169.254.169.254\r\n",
        "show_identity": False,
        **changes,
    }
    done = subprocess.run(
        [sys.executable, LOAD],
        input=f"{json.dumps(job)}\ngo\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    ready, result = done.stdout.splitlines()
    assert ready == "ready"
    value: dict[str, Any] = json.loads(result)
    return value


@pytest.mark.parametrize("keep_alive", [True, False])
def test_right_answers_are_counted(keep_alive: bool) -> None:
    with serving(None) as server:
        result = run_load(server.server_address[1], keep_alive=keep_alive)
    assert result["errors"] == 0
    assert 0 < result["requests"] <= len(server.requests)
    assert 0 < result["p50"] <= result["p99"]
    # A kept connection stays with its peer; else all peers take their turns.
    assert len(server.peers) == (4 if keep_alive else len(PEERS))
    assert {request.split()[1] for request in server.requests} == {b"/openstack", b"/latest"}


def test_identity_is_shown_only_when_asked_for() -> None:
    with serving(None) as server:
        run_load(server.server_address[1], show_identity=True)
        shown = list(server.requests)
        server.requests.clear()
        run_load(server.server_address[1])
    assert all(b"X-Instance-ID: instance-" in request for request in shown)
    assert server.requests
    assert not any(b"X-Instance-ID" in request for request in server.requests)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(
            answer("127.16.0.1").replace(b"instance-1", b"instance-9"), "instance-9", id="another's"
        ),
        pytest.param(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "503", id="status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "is 3", id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", "is None", id="no length"),
        pytest.param(answer("127.16.0.1") + b"surplus", "too long", id="surplus"),
        pytest.param(b"", "closed after 0 bytes", id="closed"),
    ],
)
def test_wrong_answers_are_errors(reply: bytes, expected: str) -> None:
    with serving(reply) as server:
        result = run_load(server.server_address[1], identities={"127.16.0.1": PEERS["127.16.0.1"]})
    assert result["requests"] == 0
    assert result["errors"] > 0
    assert expected in result["first_error"]


def test_a_port_without_a_server_is_an_error() -> None:
    with serving(None) as server:
        port = server.server_address[1]
    result = run_load(port)
    assert result["requests"] == 0
    assert "refused" in result["first_error"]
