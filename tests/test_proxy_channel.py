"""How a guest's connection ends, on real TCP connections of the worker's kind of event loop."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from proxy_support import Guest, on_loop

from ovs_metadata.proxy.channel import GuestChannel

MUCH = 32 * 1024 * 1024
"""Bytes that no pair of sockets takes at once."""


async def connected() -> tuple[GuestChannel, Guest]:
    """A channel, and its guest."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        guest = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
        asyncio.Protocol, accepted
    )
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
