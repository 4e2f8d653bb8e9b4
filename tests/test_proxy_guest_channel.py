"""How a guest's connection ends, on real TCP connections of the worker's kind of event loop."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from proxy_support import Guest, on_loop, until

from ovs_metadata.proxy.guest.channel import GuestChannel

MUCH = 32 * 1024 * 1024
"""Bytes that no pair of sockets takes at once."""


class Received(asyncio.Protocol):
    """What a channel's connection has read."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


async def connected(
    protocol: Callable[[], asyncio.Protocol] = asyncio.Protocol,
) -> tuple[GuestChannel, Guest]:
    """A channel, and its guest."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        guest = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(protocol, accepted)
    return GuestChannel(transport), Guest(*await asyncio.open_connection(sock=guest))


def nothing(channel: GuestChannel) -> None:
    """Leave the channel as it is."""


@pytest.mark.parametrize("before", [nothing, GuestChannel.close, GuestChannel.pause_reading])
@on_loop
async def test_a_reset_is_one_whatever_came_before(
    before: Callable[[GuestChannel], None],
) -> None:
    channel, guest = await connected()
    channel.write(b"x" * MUCH)
    before(channel)
    channel.reset()
    await guest.until_reset()


@on_loop
async def test_closing_sends_what_was_written() -> None:
    channel, guest = await connected()
    channel.write(b"x" * MUCH)
    channel.close()
    assert len(await guest.rest()) == MUCH


@on_loop
async def test_the_last_bytes_are_followed_by_the_end_of_output() -> None:
    channel, guest = await connected()
    channel.write_last(b"last")
    assert await guest.rest() == b"last"
    assert channel.open
    channel.reset()


@on_loop
async def test_a_channel_reads_when_it_is_neither_paused_nor_at_rest() -> None:
    received = Received()
    channel, guest = await connected(lambda: received)
    channel.rest(0.05)
    channel.resume_reading()  # it rests all the same
    await guest.send(b"a")
    assert received.data == b""
    await until(lambda: received.data == b"a")
    channel.rest(0.0)
    channel.pause_reading()
    await guest.send(b"b")
    channel.resume_reading()
    await until(lambda: received.data == b"ab")
    channel.reset()
    channel.rest(0.0)
    await guest.until_reset()
