"""Which worker a connection goes to, with real sockets on the loopback device."""

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest

from ovs_metadata.agent.network.steering import steer_by_ofport

WORKERS = 3


@contextlib.contextmanager
def group(family: socket.AddressFamily) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        listeners: list[socket.socket] = []
        for _ in range(WORKERS):
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(("", listeners[0].getsockname()[1] if listeners else 0))
            listener.listen(100)
            listeners.append(listener)
        steer_by_ofport(listeners[0], WORKERS)
        yield listeners


def serving(listeners: list[socket.socket], address: str) -> int:
    """The number of the socket that a connection to an address arrives at."""
    with socket.create_connection((address, listeners[0].getsockname()[1]), 10):
        ready, _, _ = select.select(listeners, [], [], 10)
        assert len(ready) == 1
        ready[0].accept()[0].close()
        return listeners.index(ready[0])


def test_every_connection_of_a_port_goes_to_the_worker_its_ofport_says() -> None:
    with group(socket.AF_INET) as listeners:
        for ofport in (1, 2, 3, 4, 255, 256, 65279):
            for _ in range(3):
                address = f"127.0.{ofport >> 8}.{ofport & 255}"
                assert serving(listeners, address) == ofport % WORKERS


def test_the_same_holds_for_ipv6() -> None:
    with group(socket.AF_INET6) as listeners:
        # The only address of the loopback device ends in 1, as that of ofport 1 does.
        assert [serving(listeners, "::1") for _ in range(5)] == [1 % WORKERS] * 5


def test_a_kernel_that_takes_no_program_is_no_reason_not_to_serve(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as alone:  # not in any group, which the kernel refuses alike
        steer_by_ofport(alone, 2)
    assert "this kernel does not accept the program" in caplog.text
