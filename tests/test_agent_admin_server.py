"""The admin listener, asked over real sockets."""

import asyncio
import contextlib
import errno
import json
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from proxy_support import identity, on_loop, until
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.simple_httpclient import HTTPTimeoutError

from lab.rig.process import free_port
from ovs_metadata.agent.admin import limited_listener
from ovs_metadata.agent.admin.server import AdminListener
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.health import AgentView
from ovs_metadata.host.listen import Listen, ListenAddress, UnixSocket

SECRET = "signature-5"
"""The signature of the identity that the tests serve."""


@contextlib.asynccontextmanager
async def listening(listen: Listen, problems: Sequence[str] = ()) -> AsyncIterator[None]:
    statistics = HostStatistics()
    statistics.table_changed({"169.254.0.5": identity(5)})
    about = AgentView(host="cn-1", network=tuple(problems))
    listener = AdminListener(statistics, lambda: about)
    listener.listen(listen)
    try:
        yield
    finally:
        await listener.close()


async def ask(address: ListenAddress, path: str, **options: Any) -> HTTPResponse:
    client = AsyncHTTPClient(force_instance=True)
    try:
        return await client.fetch(f"http://{address}{path}", raise_error=False, **options)
    finally:
        client.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def address(request: pytest.FixtureRequest) -> ListenAddress:
    return ListenAddress(request.param, free_port())


def test_metrics_are_in_the_form_that_is_asked_for(address: ListenAddress) -> None:
    @on_loop
    async def check() -> None:
        async with listening(address):
            plain = await ask(address, "/metrics")
            assert plain.code == 200
            assert plain.headers["Content-Type"].startswith("text/plain; version=")
            assert b'ovs_metadata_ports{state="served"} 1.0' in plain.body
            assert b"ovs_metadata_ready 1.0" in plain.body
            assert b"\nprocess_cpu_seconds_total " in plain.body
            wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
            other = await ask(address, "/metrics", headers=wanted)
            assert other.headers["Content-Type"].startswith("application/openmetrics-text")
            assert other.body.endswith(b"# EOF\n")

    check()


def test_ready_is_not_alive(address: ListenAddress) -> None:
    @on_loop
    async def check() -> None:
        async with listening(address):
            healthy = await ask(address, "/healthz")
            assert (healthy.code, json.loads(healthy.body)["ready"]) == (200, True)
            assert (await ask(address, "/healthz/ready")).code == 200
            assert (await ask(address, "/healthz/live")).code == 200
        async with listening(address, ["there is no bridge"]):
            for path in ("/healthz", "/healthz/ready"):
                answer = await ask(address, path)
                assert answer.code == 503
                found = json.loads(answer.body)
                assert (found["alive"], found["ready"]) == (True, False)
                assert found["problems"] == ["there is no bridge"]
            assert (await ask(address, "/healthz/live")).code == 200
            assert b"ovs_metadata_ready 0.0" in (await ask(address, "/metrics")).body

    check()


def test_answers_hold_no_secret_and_no_request_changes_anything(
    address: ListenAddress,
) -> None:
    @on_loop
    async def check() -> None:
        async with listening(address):
            for path in ("/metrics", "/healthz", "/ports", "/status", "/"):
                answer = await ask(address, path)
                assert answer.code == 200
                assert SECRET.encode() not in answer.body
                assert (await ask(address, path, method="POST", body=b"x")).code == 405
            assert b"port-5" in (await ask(address, "/ports")).body
            for path in ("/index.html", "/metrics/", "/ports/../metrics", "/etc/passwd"):
                assert (await ask(address, path)).code == 404

    check()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9775", 200),
        ("[::1]:9775", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("cn-1", 200),
        ("rebound.example", 403),
        ("127.0.0.1.rebound.example", 403),
        ("10.0.0.1.", 403),
    ],
)
def test_a_name_that_is_not_of_this_host_is_refused(host: str, status: int) -> None:
    address = ListenAddress("127.0.0.1", free_port())

    @on_loop
    async def check() -> None:
        async with listening(address):
            for path in ("/metrics", "/status", "/", "/nothing"):
                answer = await ask(address, path, headers={"Host": host})
                assert answer.code == (404 if path == "/nothing" and status == 200 else status)

    check()


def test_held_connections_do_not_block_other_clients(address: ListenAddress) -> None:
    held: list[socket.socket] = []

    @on_loop
    async def check() -> None:
        async with listening(address):
            for _ in range(limited_listener.AT_ONCE - 1):
                held.append(socket.create_connection((address.host, address.port)))
            assert (await ask(address, "/healthz/live")).code == 200
            closed = sum(map(_is_closed, held))
            assert closed >= limited_listener.AT_ONCE - limited_listener.MAX_CONNECTIONS

    try:
        check()
    finally:
        for each in held:
            each.close()


def test_one_address_has_a_few_connections() -> None:
    address = ListenAddress("127.0.0.1", free_port())

    def connection(source: str) -> socket.socket:
        made = socket.create_connection((address.host, address.port), source_address=(source, 0))
        held.append(made)
        return made

    held: list[socket.socket] = []
    count = limited_listener.MAX_PER_PEER

    @on_loop
    async def check() -> None:
        async with listening(address):
            other = connection("127.0.0.3")
            crowd = [connection("127.0.0.2") for _ in range(count + 3)]
            assert (await ask(address, "/healthz/live")).code == 200
            assert [_is_closed(each) for each in crowd] == [True] * 3 + [False] * count
            assert not _is_closed(other)

    try:
        check()
    finally:
        for each in held:
            each.close()


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        return connection.recv(1) == b""
    return False


@pytest.mark.parametrize("sent", [b"", b"GET /healthz/live HT"])
def test_a_connection_that_lasts_too_long_is_closed(
    monkeypatch: pytest.MonkeyPatch, address: ListenAddress, sent: bytes
) -> None:
    monkeypatch.setattr(limited_listener, "MAX_SECONDS", 0.05)

    @on_loop
    async def check() -> None:
        async with listening(address):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(sent)
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()

    check()


class NoDescriptors:
    """A listening socket of a process that has no descriptor for a connection."""

    def __init__(self) -> None:
        self.tried: list[float] = []
        """When, by the event loop's clock."""
        self.socket, self.other = socket.socketpair()
        self.other.send(b"x")  # so that it can always be read

    def fileno(self) -> int:
        return self.socket.fileno()

    def accept(self) -> None:
        self.tried.append(asyncio.get_running_loop().time())
        raise OSError(errno.EMFILE, "Too many open files")

    def close(self) -> None:
        self.socket.close()
        self.other.close()


def test_running_out_of_descriptors_is_logged_once_and_waited_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limited_listener, "PAUSE", 0.01)
    listener = NoDescriptors()

    @on_loop
    async def check() -> None:
        guarded = limited_listener.LimitedListener(listener, lambda *_: None)  # type: ignore[arg-type]
        guarded.open()
        await until(lambda: len(listener.tried) >= 3)
        guarded.close()

    check()
    pauses = [later - earlier for earlier, later in pairwise(listener.tried)]
    assert min(pauses) > limited_listener.PAUSE / 2
    assert (
        caplog.text.count("accepts no connections at present: [Errno 24] Too many open files") == 1
    )


def test_too_many_connections_in_a_short_time_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_listener, "AT_ONCE", 2)
    monkeypatch.setattr(limited_listener, "PER_SECOND", 1e-6)
    address = ListenAddress("127.0.0.1", free_port())

    @on_loop
    async def check() -> None:
        async with listening(address):
            for _ in range(2):
                assert (await ask(address, "/healthz/live")).code == 200
            with pytest.raises(HTTPTimeoutError):
                await ask(address, "/healthz/live", request_timeout=0.5)

    check()


def test_after_close_no_socket_listens(address: ListenAddress) -> None:
    @on_loop
    async def check() -> None:
        async with listening(address):
            _, kept = await asyncio.open_connection(address.host, address.port)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(address.host, address.port)
        kept.close()

    check()


def test_a_place_that_is_taken_is_an_error(address: ListenAddress) -> None:
    @on_loop
    async def check() -> None:
        async with listening(address):
            with pytest.raises(OSError, match="in use"):
                AdminListener(HostStatistics(), AgentView).listen(address)

    check()


def test_a_unix_socket_is_for_its_owner_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"

    @on_loop
    async def check() -> None:
        for _ in range(2):  # the second finds nothing of the first in its way
            async with listening(UnixSocket(path)):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"GET /healthz/live HTTP/1.0\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
                writer.close()
            assert not path.exists()

    check()
