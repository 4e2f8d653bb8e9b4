"""How a guest's connection ends, on real TCP connections of the worker's kind of event loop."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from proxy_support import Guest, on_loop, until

from ovs_metadata.proxy.guest.transport import GuestTransport

MUCH = 32 * 1024 * 1024
"""Bytes that no pair of sockets takes at once."""


class Received(asyncio.Protocol):
    """What a transport's connection has read."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


async def connected(
    protocol: Callable[[], asyncio.Protocol] = asyncio.Protocol,
) -> tuple[GuestTransport, Guest]:
    """A transport, and its guest."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        guest = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(protocol, accepted)
    return GuestTransport(transport), Guest(*await asyncio.open_connection(sock=guest))


def nothing(transport: GuestTransport) -> None:
    """Leave the transport as it is."""


@pytest.mark.parametrize("before", [nothing, GuestTransport.close, GuestTransport.pause_reading])
@on_loop
async def test_a_reset_is_one_whatever_came_before(
    before: Callable[[GuestTransport], None],
) -> None:
    transport, guest = await connected()
    transport.write(b"x" * MUCH)
    before(transport)
    transport.reset()
    await guest.until_reset()


@on_loop
async def test_closing_sends_what_was_written() -> None:
    transport, guest = await connected()
    transport.write(b"x" * MUCH)
    transport.close()
    assert len(await guest.rest()) == MUCH


@on_loop
async def test_the_last_bytes_are_followed_by_the_end_of_output() -> None:
    transport, guest = await connected()
    transport.write_last(b"last")
    assert await guest.rest() == b"last"
    assert transport.open
    transport.reset()


@on_loop
async def test_a_connection_is_read_when_it_is_neither_paused_nor_at_rest() -> None:
    received = Received()
    transport, guest = await connected(lambda: received)
    transport.delay_reading(0.05)
    transport.resume_reading()  # it rests all the same
    await guest.send(b"a")
    assert received.data == b""
    await until(lambda: received.data == b"a")
    transport.delay_reading(0.0)
    transport.pause_reading()
    await guest.send(b"b")
    transport.resume_reading()
    await until(lambda: received.data == b"ab")
    transport.reset()
    transport.delay_reading(0.0)
    await guest.until_reset()
