"""What the lab hands out has no other user, and its waits end or name what is missing."""

import socket

import pytest

from lab.rig.process import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_a_port_is_handed_out_once(host: str) -> None:
    port = free_port()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as other, pytest.raises(OSError, match="in use"):
        other.bind((host, port))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_was_handed_out_can_be_listened_on_again_and_again(host: str) -> None:
    port = free_port()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(2):
        with socket.create_server((host, port), family=family):
            socket.create_connection((host, port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), timeout=5)


def test_each_port_is_handed_out_once() -> None:
    assert len({free_port() for _ in range(100)}) == 100
