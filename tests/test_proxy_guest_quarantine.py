"""Shutting out a port, with real sockets on the loopback device."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from ovs_metadata.proxy.guest.quarantine import Quarantine

NUISANCE, NEIGHBOUR = "127.0.7.1", "127.0.7.2"


@contextlib.contextmanager
def guarded() -> Iterator[tuple[Quarantine, socket.socket]]:
    with socket.create_server(("", 0), backlog=100) as listener:
        quarantine = Quarantine()
        quarantine.guard([listener])
        yield quarantine, listener


def connects(listener: socket.socket, address: str, timeout: float = 10.0) -> bool:
    try:
        socket.create_connection((address, listener.getsockname()[1]), timeout).close()
    except TimeoutError:
        return False
    return True


def turn_away(quarantine: Quarantine, address: str, times: int, now: float = 100.0) -> None:
    for _ in range(times):
        quarantine.record_abuse(address, now=now, tolerance=3, duration=5.0)


def test_a_guest_that_keeps_connecting_is_shut_out_and_no_other() -> None:
    with guarded() as (quarantine, listener):
        turn_away(quarantine, NUISANCE, 4)
        assert not connects(listener, NUISANCE, timeout=0.3)
        assert connects(listener, NEIGHBOUR)


def test_within_the_tolerance_no_guest_is_shut_out() -> None:
    with guarded() as (quarantine, listener):
        turn_away(quarantine, NUISANCE, 3)
        quarantine.sweep(101.0)
        turn_away(quarantine, NUISANCE, 3)
        assert connects(listener, NUISANCE)


def test_it_is_over_when_its_time_is() -> None:
    with guarded() as (quarantine, listener):
        turn_away(quarantine, NUISANCE, 4)
        quarantine.sweep(104.9)
        assert not connects(listener, NUISANCE, timeout=0.3)
        quarantine.sweep(105.0)
        assert connects(listener, NUISANCE)


def test_connections_that_are_there_go_on() -> None:
    with (
        guarded() as (quarantine, listener),
        socket.create_connection((NUISANCE, listener.getsockname()[1]), 10) as guest,
    ):
        accepted, _ = listener.accept()
        turn_away(quarantine, NUISANCE, 4)
        guest.sendall(b"still there")
        accepted.settimeout(10)
        assert accepted.recv(100) == b"still there"
        accepted.close()


def test_what_a_former_worker_left_is_removed() -> None:
    with guarded() as (quarantine, listener):
        turn_away(quarantine, NUISANCE, 4)
        Quarantine().guard([listener])
        assert connects(listener, NUISANCE)


def test_it_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with guarded() as (quarantine, _listener):
        turn_away(quarantine, NUISANCE, 50)
    assert caplog.text.count("abuses connections") == 1


def test_ipv6_is_filtered_by_the_end_of_its_address() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener:
        listener.bind(("::1", 0))
        listener.listen(100)
        quarantine = Quarantine()
        quarantine.guard([listener])
        turn_away(quarantine, "fe80::a9fe:1", 4)  # as ::1 ends
        with pytest.raises(TimeoutError):
            socket.create_connection(listener.getsockname()[:2], 0.3)
        quarantine.sweep(200.0)
        socket.create_connection(listener.getsockname()[:2], 10).close()
