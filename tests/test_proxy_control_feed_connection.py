"""The worker's end of the feed."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from proxy_support import identity, on_loop, until

from ovs_metadata.proxy.control import feed_connection
from ovs_metadata.proxy.control.feed import (
    Confirmed,
    FeedError,
    FullState,
    IdentityChange,
    Message,
    ReportTaken,
    encode,
)
from ovs_metadata.proxy.control.feed_connection import FeedConnection
from ovs_metadata.proxy.control.settings import Settings

SNAPSHOT = FullState(Settings(retry_after=3), {"169.254.0.5": identity(5)})
CHANGE = IdentityChange("169.254.0.5", None)


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[FeedConnection, socket.socket]]:
    """A worker's end, and the agent's."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, feed = await loop.create_unix_connection(FeedConnection, sock=theirs)
    try:
        with ours:
            yield feed, ours
    finally:
        feed.close()


async def received(*lines: bytes) -> tuple[list[Message], str]:
    """Return the messages of a feed that holds these lines and ends, and how it ended."""
    messages: list[Message] = []
    async with connected() as (feed, agent):
        feed.follow(messages.append)
        agent.sendall(b"".join(lines))
        agent.shutdown(socket.SHUT_WR)
        with pytest.raises(FeedError) as ended:
            await feed.ended
        if feed.snapshot.exception() is None:
            messages.insert(0, feed.snapshot.result())
    return messages, str(ended.value)


@on_loop
async def test_the_feed_is_read_until_it_ends() -> None:
    sent: list[Message] = [SNAPSHOT, CHANGE, ReportTaken(), Confirmed()]
    messages, end = await received(*map(encode, sent))
    assert messages == sent
    assert end == "the agent has closed the feed"


@on_loop
async def test_half_a_message_is_none() -> None:
    messages, end = await received(encode(SNAPSHOT), encode(CHANGE)[:-1])
    assert messages == [SNAPSHOT]
    assert end == "the agent has closed the feed"


@pytest.mark.parametrize("sent", [[CHANGE], [SNAPSHOT, CHANGE, SNAPSHOT, CHANGE]])
@on_loop
async def test_the_feed_has_one_snapshot_and_it_comes_first(sent: list[Message]) -> None:
    messages, end = await received(*map(encode, sent))
    assert messages == sent[: max(0, len(sent) - 2)]
    assert "must begin with a snapshot" in end


@on_loop
async def test_nothing_counts_after_what_is_not_understood() -> None:
    messages, end = await received(encode(SNAPSHOT), b"nonsense\n", encode(CHANGE))
    assert messages == [SNAPSHOT]
    assert "is not JSON" in end


@on_loop
async def test_what_comes_before_the_first_follower_is_passed_on_in_order() -> None:
    messages: list[Message] = []
    async with connected() as (feed, agent):
        agent.sendall(encode(SNAPSHOT) + encode(CHANGE))
        assert await feed.snapshot == SNAPSHOT
        agent.sendall(encode(Confirmed()))
        await until(lambda: len(feed._early) == 2)
        feed.follow(messages.append)
        agent.sendall(encode(ReportTaken()))
        await until(lambda: len(messages) == 3)
    assert messages == [CHANGE, Confirmed(), ReportTaken()]


@on_loop
async def test_a_message_that_cannot_be_taken_ends_the_feed() -> None:
    def refuse(_message: Message) -> None:
        raise FeedError("not now")

    async with connected() as (feed, agent):
        agent.sendall(encode(SNAPSHOT) + encode(CHANGE))
        await feed.snapshot
        feed.follow(refuse)
        with pytest.raises(FeedError, match="not now"):
            await feed.ended


@on_loop
async def test_a_line_that_does_not_end_ends_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_connection, "MAX_LINE", 100)
    _, end = await received(b"x" * 101)
    assert end == "a line of the feed is over 100 bytes"


@on_loop
async def test_after_the_agents_end_what_is_written_is_still_sent() -> None:
    async with connected() as (feed, agent):
        agent.shutdown(socket.SHUT_WR)
        with pytest.raises(FeedError):
            await feed.ended
        feed.write(b"the last report\n")
        feed.close()
        await feed.lost
        assert agent.recv(100) == b"the last report\n"
        assert feed.closed
