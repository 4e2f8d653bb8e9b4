"""A real worker that may open few files, or none."""

import contextlib
import re
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.rig.process import wait_for
from lab.rig.proxy_process import ProxyProcess, guest_address
from lab.stand_ins.upstream_recorder import UpstreamRecorder

CROWD, BYSTANDER = 2, 3
DEADLINE = 20.0
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[ProxyProcess]:
    with (
        UpstreamRecorder() as nova,
        ProxyProcess(
            tmp_path, python=sys.executable, nova=nova.url, guests=(CROWD, BYSTANDER)
        ) as proxy,
    ):
        yield proxy


def connect(worker: ProxyProcess, number: int) -> socket.socket:
    return socket.create_connection((guest_address(number), worker.port), DEADLINE)


def is_answered(connection: socket.socket) -> bool:
    try:
        connection.sendall(REQUEST)
        return connection.recv(100).startswith(b"HTTP/1.1 200 ")
    except ConnectionError:
        return False


def asks(worker: ProxyProcess, number: int) -> bool:
    with connect(worker, number) as connection:
        return is_answered(connection)


def allow(worker: ProxyProcess, files: int) -> None:
    _, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (files, hard))


def test_a_crowd_takes_no_others_descriptors_and_all_is_well_when_there_are_more(
    worker: ProxyProcess,
) -> None:
    allow(worker, 64 + 2 * 10)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            with contextlib.suppress(ConnectionError):  # those beyond are cut off, some at once
                stack.enter_context(connect(worker, CROWD))
        wait_for(lambda: "may open too few files" in worker.log(), "its complaint", DEADLINE)
        assert all(asks(worker, BYSTANDER) for _ in range(20))
    assert worker.log().count("may open too few files") == 1
    allow(worker, 1024)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(connect(worker, CROWD)) for _ in range(60)]
        assert all(is_answered(each) for each in crowd)
    assert worker.complaints() == []


def listens(worker: ProxyProcess) -> bool:
    """Whether its event loop waits for connections: is called when there is one to accept."""
    directory = Path(f"/proc/{worker.pid}")
    # proc_pid_net(5): local address, state (0A: listening) and inode of a socket.
    rows = [line.split() for line in (directory / "net/tcp").read_text().splitlines()[1:]]
    inodes = {
        f"socket:[{row[9]}]"
        for row in rows
        if (row[1][-4:], row[3]) == (f"{worker.port:04X}", "0A")
    }
    with contextlib.suppress(FileNotFoundError):  # it is closing one
        watched = {
            number
            for path in (directory / "fd").iterdir()
            if str(path.readlink()) == "anon_inode:[eventpoll]"
            for number in re.findall(
                r"^tfd:\s*(\d+)", (directory / "fdinfo" / path.name).read_text(), re.MULTILINE
            )
        }
        return any(str((directory / "fd" / each).readlink()) in inodes for each in watched)
    return True


def test_without_a_descriptor_it_does_not_try_to_accept_until_there_is_one(
    worker: ProxyProcess,
) -> None:
    assert asks(worker, BYSTANDER)
    assert listens(worker)
    allow(worker, 8)
    with connect(worker, BYSTANDER) as waiting:
        wait_for(lambda: not listens(worker), "it to wait for no connection", DEADLINE)
        allow(worker, 1024)
        assert is_answered(waiting)
    assert listens(worker)
    assert worker.complaints() == []


def test_without_a_descriptor_guests_wait_until_there_is_one(worker: ProxyProcess) -> None:
    assert asks(worker, BYSTANDER)
    allow(worker, 8)  # it has more already
    with connect(worker, BYSTANDER) as waiting:
        wait_for(lambda: "lack of a file descriptor" in worker.log(), "its complaint", DEADLINE)
        allow(worker, 1024)
        assert is_answered(waiting)
    assert worker.log().count("lack of a file descriptor") == 1
    assert worker.complaints() == []
