"""Listening sockets between one worker and the next."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from ovs_metadata.agent.network.listeners import Listeners, options_of

Act = Callable[[socket.socket], object]


def listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), reuse_port=True)


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    made = Listeners([[listen()], [listen()]], lambda _: [listen()])
    yield made
    made.close()


def _connected(listener: socket.socket) -> None:
    listener.shutdown(socket.SHUT_RDWR)
    with socket.create_server(("127.0.0.1", 0)) as guest:
        listener.connect(guest.getsockname())


@pytest.mark.parametrize(
    "act",
    [
        lambda listener: listener.shutdown(socket.SHUT_RDWR),
        _connected,
        lambda listener: listener.setsockopt(socket.SOL_SOCKET, 44, 1),  # SO_LOCK_FILTER
        lambda listener: listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        lambda listener: listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        ),
        lambda listener: listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30),
        lambda listener: listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 88),
        lambda listener: listener.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1),
    ],
)
def test_sockets_that_a_worker_has_changed_are_replaced(listeners: Listeners, act: Act) -> None:
    (before,) = listeners.of(0)
    copy = before.dup()
    act(copy)
    (after,) = listeners.of(0)
    assert after is not before
    assert before.fileno() == -1
    assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
    copy.close()
    with socket.create_connection(after.getsockname()):
        pass


def test_sockets_of_a_worker_that_only_served_are_used_again(listeners: Listeners) -> None:
    (before,) = listeners.of(0)
    before.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    before.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    with socket.create_connection(before.getsockname()) as guest, before.accept()[0] as accepted:
        guest.sendall(b"x" * 100_000)
        accepted.recv(1000)
    assert list(listeners.of(0)) == [before]


def test_a_worker_that_was_killed_for_what_it_did_leaves_no_sockets(listeners: Listeners) -> None:
    before = [listeners.of(number)[0] for number in range(2)]
    listeners.distrust(0)
    assert listeners.of(0)[0] is not before[0]
    assert listeners.of(1)[0] is before[1]
    again = listeners.of(0)
    assert listeners.of(0) == again


def test_as_long_as_new_ones_cannot_be_opened_there_are_none() -> None:
    def fail(_: int) -> list[socket.socket]:
        raise FileNotFoundError(2, "No such file or directory")

    with contextlib.closing(Listeners([[listen()]], fail)) as listeners:
        listeners.distrust(0)
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                listeners.of(0)


@pytest.mark.parametrize("place", ["127.0.0.1", "::1"])
def test_all_unchanged_listening_sockets_look_alike(place: str) -> None:
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    with (
        socket.create_server((place, 0), family=family) as one,
        socket.create_server((place, 0), family=family) as another,
    ):
        assert options_of(one) == options_of(another)
