"""The library's connections: what arrives is read, and thousands of removals are few events."""

import socket
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from ovs_metadata.flows import openflow, wire
from ovs_metadata.flows.library import library

MAIN = openflow.handler.MAIN_DISPATCHER
_parse = library("ofproto.ofproto_parser").msg


def arrives(datapath: Any, message: bytes) -> Any:
    """What the library makes of a message that a switch sends: an event's message, or None."""
    version, kind, length, transaction = wire.HEADER.unpack_from(message)
    return _parse(datapath, version, kind, length, transaction, bytearray(message))


def removed(number: int) -> bytes:
    fixed = struct.pack("!QHBBIIHHQQ", number, 0, wire.REMOVED_BY_DELETE, 0, *[0] * 6)
    return wire.message(wire.FLOW_REMOVED, fixed + struct.pack("!HH4x", 1, 4))


@pytest.fixture
def switch() -> SimpleNamespace:
    return SimpleNamespace(
        state=MAIN, ofproto=openflow.ofproto, ofproto_parser=library("ofproto.ofproto_v1_3_parser")
    )


def test_removals_that_arrive_one_after_the_other_are_one_event(switch: SimpleNamespace) -> None:
    event = arrives(switch, removed(1))
    assert [arrives(switch, removed(number)) for number in (2, 3)] == [None, None]
    assert openflow.removed_flows(event) == [removed(number) for number in (1, 2, 3)]
    later = arrives(switch, removed(4))
    assert openflow.removed_flows(later) == [removed(4)]


def test_what_is_removed_after_a_dump_is_handled_after_it(switch: SimpleNamespace) -> None:
    before = arrives(switch, removed(1))
    dump = wire.message(wire.MULTIPART_REPLY, struct.pack("!HH4x", 1, 0))
    assert arrives(switch, dump).body == []
    after = arrives(switch, removed(2))
    assert openflow.removed_flows(before) == [removed(1)]
    assert openflow.removed_flows(after) == [removed(2)]


def test_removals_before_their_handler_is_there_are_not_kept(switch: SimpleNamespace) -> None:
    switch.state = openflow.handler.CONFIG_DISPATCHER
    first, second = (arrives(switch, removed(number)) for number in (1, 2))
    assert (first.messages, second.messages) == ([removed(1)], [removed(2)])


def test_a_stream_gives_as_many_bytes_as_are_wanted_and_reads_more_at_once() -> None:
    ours, other = socket.socketpair()
    with ours, other:
        stream = openflow.UnixStream(ours)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        other.sendall(b"12345678rest")
        assert stream.recv(8) == b"12345678"
        other.sendall(b"more")
        assert [stream.recv(3), stream.recv(8), stream.recv(8)] == [b"res", b"t", b"more"]
        assert stream.fileno() == ours.fileno()
        other.close()
        assert stream.recv(8) == b""
