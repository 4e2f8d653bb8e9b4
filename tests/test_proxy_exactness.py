"""Answers that a proxy is tempted to touch or to gather: compressed, binary, huge."""

import contextlib
import gzip
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy_support import OK, NovaConnection, answers, identity_lines, on_loop, relay
from test_proxy_main import entry, eventually, process

from lab.rig.process import free_port

USER_DATA = gzip.compress(b"#cloud-config\n" + bytes(range(256)) * 100)


@pytest.mark.parametrize(
    "body",
    [USER_DATA, bytes(range(256)), b"\r\n\r\n", b"HTTP/1.1 500 no\r\n\r\n", b"0\r\n\r\n", b""],
    ids=["gzip", "binary", "blank", "HTTP", "chunk", "empty"],
)
@pytest.mark.parametrize("encoding", [b"", b"Content-Encoding: gzip\r\n"])
@on_loop
async def test_user_data_is_passed_as_it_is(body: bytes, encoding: bytes) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        + encoding
        + b"Vary: Accept-Encoding\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    async with relay(answers(answer)) as (proxy, nova):
        guest = await proxy.guest()
        for _ in range(2):
            await guest.send(
                b"GET /openstack/latest/user_data HTTP/1.1\r\nHost: h\r\n"
                b"Accept-Encoding: gzip, deflate\r\nRange: bytes=0-9\r\n\r\n"
            )
            assert await guest.answer() == answer
    assert b"\r\nAccept-Encoding: gzip, deflate\r\nRange: bytes=0-9\r\n" in nova.requests[0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@on_loop
async def test_a_redirection_is_the_guests_to_follow(status: int) -> None:
    answer = (
        b"HTTP/1.1 %d Elsewhere\r\nLocation: http://169.254.169.254/latest/\r\n"
        b"Content-Length: 0\r\n\r\n" % status
    )
    async with relay(answers(answer)) as (proxy, nova):
        guest = await proxy.guest()
        assert await guest.get() == answer
    assert len(nova.requests) == 1


@on_loop
async def test_not_modified_may_tell_a_length_that_does_not_follow() -> None:
    answer = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n"
    async with relay(answers(answer, OK)) as (proxy, _):
        guest = await proxy.guest()
        await guest.send(b"GET / HTTP/1.1\r\nHost: h\r\nIf-None-Match: x\r\n\r\n")
        assert await guest.reader.readexactly(len(answer)) == answer
        assert await guest.get() == OK


@on_loop
async def test_a_password_in_chunks_arrives_with_its_length_and_its_answer_once() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"
    password = b"encrypted+password=="

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(answer)

    async with relay(script) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(
            b"POST /openstack/latest/password HTTP/1.1\r\nHost: h\r\n"
            b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await guest.reader.readexactly(len(interim)) == interim
        for byte in password:
            await guest.send(b"1\r\n%c\r\n" % byte)
        await guest.send(b"0\r\n\r\n")
        assert await guest.answer() == answer
    (request,) = nova.requests
    assert b"Content-Length: %d\r\n" % len(password) in request
    assert identity_lines(2) in request
    assert request.endswith(b"\r\n\r\n" + password)
    assert b"ransfer-Encoding" not in request
    assert b"xpect" not in request


MEGABYTE = bytes(range(256)) * 4096
SIZE = 96
"""Megabytes of the answer."""


@contextlib.contextmanager
def generous_nova(*, chunked: bool) -> Iterator[str]:
    """A Nova that answers one request with many megabytes."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (SIZE << 20)

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
            for _ in range(SIZE):
                head, tail = (b"100000\r\n", b"\r\n") if chunked else (b"", b"")
                connection.sendall(head + MEGABYTE + tail)
            if chunked:
                connection.sendall(b"0\r\n\r\n")
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def most_memory(pid: int) -> int:
    """Return the most memory a process has had so far, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_of_many_megabytes_takes_next_to_no_memory(
    tmp_path: Path, *, chunked: bool
) -> None:
    identities = tmp_path / "identities.json"
    identities.write_text(json.dumps({"identities": {"127.0.0.2": entry(2)}}))
    port = free_port()
    arguments = ("--identities", str(identities), "--listen", f"0.0.0.0:{port}")
    with (
        generous_nova(chunked=chunked) as nova,
        process(*arguments, "--nova", nova) as worker,
    ):

        def stranger() -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as guest:
                guest.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                return guest.recv(12)

        eventually(stranger, b"HTTP/1.1 404")
        before = most_memory(worker.pid)
        with socket.create_connection(("127.0.0.2", port), timeout=20) as guest:
            # The guest reads the first megabytes slowly: whatever is taken from Nova and not yet
            # given to the guest has to be somewhere.
            guest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            guest.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            received = 0
            pauses = threading.Event()
            while piece := guest.recv(1 << 20):
                received += len(piece)
                if received < 4 << 20:
                    pauses.wait(0.02)
        assert received > SIZE << 20
        assert most_memory(worker.pid) - before < 4 << 20
