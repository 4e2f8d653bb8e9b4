"""A connection to a switch that does not behave; functional tests have one that does."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_metadata.flows import wire
from ovs_metadata.flows.connection import OpenFlowConnection

HELLO = bytes.fromhex("0400000800000000")
BAD_REQUEST = bytes.fromhex("0401000c0000000000010008")
BARRIER_REPLY = bytes.fromhex("0415000800000000")


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.create_server(str(tmp_path / "switch"), family=socket.AF_UNIX) as listener:
        yield listener


def _answer(switch: socket.socket, *answers: bytes) -> threading.Thread:
    def serve() -> None:
        connection, _ = switch.accept()
        with connection:
            connection.recv(len(HELLO))
            for answer in answers:
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def _await_barrier(switch: socket.socket, *answers: bytes) -> bytes:
    thread = _answer(switch, *answers)
    try:
        with OpenFlowConnection(Path(switch.getsockname())) as connection:
            return connection.receive(wire.BARRIER_REPLY)
    finally:
        thread.join(10)


def test_other_messages_are_passed_over(switch: socket.socket) -> None:
    split = (BARRIER_REPLY[:3], BARRIER_REPLY[3:])
    assert _await_barrier(switch, HELLO, HELLO, *split) == BARRIER_REPLY


def test_a_closed_connection_is_an_error(switch: socket.socket) -> None:
    with pytest.raises(ConnectionError, match="closed the connection"):
        _await_barrier(switch, HELLO, BARRIER_REPLY[:5])


def test_a_refused_message_is_an_error_with_its_name(switch: socket.socket) -> None:
    with pytest.raises(ConnectionError, match="refused a message: OFPBRC_BUFFER_UNKNOWN"):
        _await_barrier(switch, HELLO, BAD_REQUEST)


def test_no_switch_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), OpenFlowConnection(tmp_path / "nothing"):
        pytest.fail("it connected to nothing")
