"""How a worker's reports get to the agent."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from proxy_support import on_loop, until

from ovs_metadata.proxy.accounting import reporter as proxy_reporter
from ovs_metadata.proxy.accounting.report import Report, decode
from ovs_metadata.proxy.accounting.reporter import Reporter
from ovs_metadata.proxy.control.feed_connection import FeedConnection
from ovs_metadata.proxy.control.identity import IdentityTable
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.server import ProxyServer

URL = "http://127.0.0.1:1"

LIMIT = 256 * 1024
"""Bytes after which the agent of these tests reads no more of its own accord."""


@contextlib.asynccontextmanager
async def reporting() -> AsyncIterator[tuple[ProxyServer, Reporter, asyncio.StreamReader]]:
    """A server without clients, its reporter, and the agent's end."""
    server = ProxyServer(Settings(nova_metadata_urls=(URL,), access_log="off"), IdentityTable())
    ours, theirs = socket.socketpair()
    agent, agent_writer = await asyncio.open_unix_connection(sock=ours, limit=LIMIT)
    loop = asyncio.get_running_loop()
    _, feed = await loop.create_unix_connection(FeedConnection, sock=theirs)
    try:
        yield server, Reporter(server, feed), agent
    finally:
        feed.close()
        agent_writer.close()
        server.close()


def ask(server: ProxyServer, port_id: str = "port") -> None:
    server.observer.statistics.request_done(port_id, 200, "answered", 0.1, 0.1)


async def read(agent: asyncio.StreamReader) -> Report:
    return decode(await agent.readline())


@on_loop
async def test_a_report_has_what_was_counted_since_the_last_one() -> None:
    async with reporting() as (server, reporter, agent):
        ask(server)
        reporter.report()
        first = await read(agent)
        assert first.counts.requests == {(200, "answered"): 1}
        assert [(endpoint.url, endpoint.healthy) for endpoint in first.endpoints] == [(URL, None)]
        ask(server)
        ask(server)
        reporter.report()
        assert (await read(agent)).counts.requests == {(200, "answered"): 2}


@on_loop
async def test_it_reports_at_once_and_again_when_the_report_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy_reporter, "INTERVAL", 0.001)
    async with reporting() as (_, reporter, agent):
        task = asyncio.create_task(reporter.run())
        for _ in range(3):
            assert (await read(agent)).counts.requests == {}
            reporter.taken()
        task.cancel()


@on_loop
async def test_counts_wait_for_an_agent_that_takes_no_report(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(proxy_reporter, "INTERVAL", 0.001)
    async with reporting() as (server, reporter, agent):
        task = asyncio.create_task(reporter.run())
        await read(agent)
        ask(server)
        await until(lambda: "no heartbeat of the agent" in caplog.text)
        ask(server)
        waiting = asyncio.create_task(read(agent))
        await until(lambda: reporter._agent_silent >= 3)
        assert not waiting.done()
        reporter.taken()
        report = await waiting
        assert report.counts.requests == {(200, "answered"): 2}
        assert report.agent_silent >= 3
        assert "the agent's heartbeat is back" in caplog.text
        reporter.taken()
        assert (await read(agent)).agent_silent == 0
        task.cancel()
    assert caplog.text.count("no heartbeat of the agent") == 1


@on_loop
async def test_the_last_report_is_read_to_its_end() -> None:
    async with reporting() as (server, reporter, agent):
        ask(server)
        await reporter.finish()
        assert (await read(agent)).counts.requests == {(200, "answered"): 1}
        assert await agent.readline() == b""
        reporter.report()  # and nothing happens any more


@on_loop
async def test_an_agent_that_is_gone_is_no_error() -> None:
    server = ProxyServer(Settings(access_log="off"), IdentityTable())
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, feed = await loop.create_unix_connection(FeedConnection, sock=theirs)
    ours.close()
    reporter = Reporter(server, feed)
    for _ in range(3):
        ask(server)
        reporter.report()
        await asyncio.sleep(0.01)
    await reporter.finish()
    server.close()
