"""The agent's end of a worker's feed."""

import asyncio
import contextlib
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from typing import cast

import pytest
from proxy_support import on_loop, until

from ovs_metadata.agent import worker_feed
from ovs_metadata.agent.worker_feed import WorkerFeed
from ovs_metadata.proxy.accounting import report


class Owner:
    """Records what it reads, and refuses what begins with "bad"."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def line_received(self, _feed: WorkerFeed, line: bytes) -> None:
        if line.startswith(b"bad"):
            raise report.ReportError("bad")
        self.log.append(line.decode().strip())

    def worker_refused(self, _feed: WorkerFeed, error: Exception) -> None:
        self.log.append(f"refused: {error}")

    def worker_deaf(self, _feed: WorkerFeed) -> None:
        self.log.append("deaf")

    def worker_silenced(self, _feed: WorkerFeed) -> None:
        self.log.append("silenced")


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Owner, WorkerFeed, socket.socket]]:
    """A feed, who owns it, and the worker's end."""
    owner = Owner()
    ours, worker = socket.socketpair()
    loop = asyncio.get_running_loop()
    no_process = cast("Process", None)
    _, feed = await loop.create_connection(lambda: WorkerFeed(owner, 0, no_process), sock=ours)
    try:
        with worker:
            yield owner, feed, worker
    finally:
        feed.close()


@on_loop
async def test_lines_are_handed_over_and_their_end_once() -> None:
    async with connected() as (owner, feed, worker):
        worker.sendall(b"one\ntwo\nthr")
        worker.sendall(b"ee\nhalf")
        worker.shutdown(socket.SHUT_WR)
        await until(lambda: "silenced" in owner.log)
        feed.close()
        await until(lambda: feed._transport is None)
    assert owner.log == ["one", "two", "three", "silenced"]


@pytest.mark.parametrize("line", [b"bad\n", b"x" * (report.MAX_LINE + 1)])
@on_loop
async def test_after_a_line_that_cannot_be_nothing_is_read(line: bytes) -> None:
    async with connected() as (owner, _feed, worker):
        worker.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(worker, b"good\n" + line)
        await until(lambda: "silenced" in owner.log)
        with contextlib.suppress(TimeoutError):  # the kernel's buffer is full, and stays so
            async with asyncio.timeout(0.2):
                while True:
                    await loop.sock_sendall(worker, b"later\n" * 1000)
    assert [each.partition(":")[0] for each in owner.log] == ["good", "refused", "silenced"]


@on_loop
async def test_what_is_written_to_a_worker_that_has_ended_is_lost_and_no_error() -> None:
    async with connected() as (owner, feed, worker):
        feed.write(b"snapshot\n")
        assert await asyncio.to_thread(worker.recv, 100) == b"snapshot\n"
        worker.close()
        await until(lambda: "silenced" in owner.log)
        for _ in range(3):
            feed.write(b"change\n")
            await asyncio.sleep(0)
        await until(lambda: feed.closed)
        feed.write(b"change\n")
        assert feed.unread == 0


@on_loop
async def test_it_knows_how_much_a_worker_leaves_unread() -> None:
    async with connected() as (_owner, feed, _worker):
        feed.write(b"x" * 10_000_000)
        assert feed.unread > 5_000_000


@on_loop
async def test_what_a_worker_does_not_read_does_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_feed, "MAX_BACKLOG", 10_000)
    async with connected() as (owner, feed, _worker):
        # As it gets them if it asks for confirmations, and nothing changes.
        for _ in range(100_000):
            feed.write(b"confirmed\n")
            await asyncio.sleep(0)
            if feed.closed:
                break
        await until(lambda: "silenced" in owner.log)
        assert (owner.log, feed.unread) == (["deaf", "silenced"], 0)
