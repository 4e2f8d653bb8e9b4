"""The doctor's TCP client, against what another end may send, in whatever order."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.cli.doctor.tcp_client import TcpClient
from ovs_metadata.flows.packets import End

HERE = End("02:00:a9:fe:00:d0", "192.0.2.1", 20001)
THERE = End("02:00:a9:fe:a9:fe", "169.254.169.254", 80)
REQUEST = b"GET / HTTP/1.1\r\n\r\n"

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def segment(frame: bytes) -> tuple[int, int, int, bytes]:
    """Sequence, acknowledgement, flags and payload of one of the client's frames."""
    packet = frame[14:]
    (length,) = struct.unpack_from("!H", packet, 2)  # what follows pads the frame
    sequence, acknowledged, offset, flags = struct.unpack_from("!IIBB", packet, 20 + 4)
    return sequence, acknowledged, flags, packet[20 + (offset >> 4) * 4 : length]


class Server:
    """The other end: another client, that is made to say what a server would."""

    def __init__(self) -> None:
        self.speaker = TcpClient(THERE, HERE, b"")

    def frame(self, flags: int, sequence: int, expected: int, payload: bytes = b"") -> bytes:
        self.speaker._expected = expected % 2**32
        return self.speaker._frame(flags, sequence % 2**32, payload)


def connected(first: int = 5, theirs: int = 1000) -> tuple[TcpClient, Server, int]:
    """A client that has sent its request; and the next sequence number expected of it."""
    client, server = TcpClient(HERE, THERE, REQUEST, first), Server()
    client.start()
    asked = first + 1
    (frame,) = client.receive(server.frame(SYN | ACK, theirs, asked))
    assert segment(frame) == (asked % 2**32, (theirs + 1) % 2**32, PSH | ACK, REQUEST)
    return client, server, asked + len(REQUEST)


def internet_checksum(data: bytes) -> int:
    total: int = sum(
        struct.unpack(f"!{len(data + bytes(len(data) % 2)) // 2}H", data + bytes(len(data) % 2))
    )
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_it_begins_with_a_syn_whose_checksums_are_right() -> None:
    (frame,) = TcpClient(HERE, THERE, REQUEST, 7).start()
    assert frame[:14] == bytes.fromhex("0200a9fea9fe 0200a9fe00d0 0800")
    assert segment(frame) == (7, 0, SYN, b"")
    ip, tcp = frame[14:34], frame[34 : 34 + 24]
    # A sum over everything, the checksum included, has all bits set (RFC 1071).
    assert internet_checksum(ip) == 0xFFFF
    assert internet_checksum(ip[12:20] + struct.pack("!BBH", 0, 6, len(tcp)) + tcp) == 0xFFFF


@pytest.mark.parametrize("first", [0, 2**32 - 1, 2**32 - 10])
def test_a_whole_conversation(first: int) -> None:
    client, server, next_ours = connected(first, theirs=2**32 - 3)
    (frame,) = client.receive(server.frame(PSH | ACK, 2**32 - 2, next_ours, b"HTTP/1.1 200"))
    assert segment(frame) == (next_ours % 2**32, 10, ACK, b"")
    (frame,) = client.receive(server.frame(FIN | ACK, 10, next_ours))
    assert segment(frame)[1:3] == (11, FIN | ACK)
    assert client.received == b"HTTP/1.1 200"
    assert client.finished
    assert not client.refused


def test_a_reset_is_a_refusal_and_ends_it() -> None:
    client, server = TcpClient(HERE, THERE, REQUEST, 5), Server()
    client.start()
    assert client.receive(server.frame(RST | ACK, 0, 6)) == []
    assert (client.refused, client.connected) == (True, False)
    assert client.abort() == []


@pytest.mark.parametrize("flags", [SYN | ACK, ACK])
def test_an_end_that_remembers_another_connection_is_made_to_forget_it(flags: int) -> None:
    client, server = TcpClient(HERE, THERE, REQUEST, 5), Server()
    client.start()
    (frame,) = client.receive(server.frame(flags, 1000, 99))
    assert segment(frame) == (99, 0, RST, b"")
    assert (client.connected, client.refused) == (False, False)
    assert segment(client.again()[0]) == (5, 0, SYN, b"")


def test_data_out_of_order_and_data_again_are_acknowledged_and_not_kept() -> None:
    client, server, ours = connected()
    (frame,) = client.receive(server.frame(ACK, 1001 + 4, ours, b"late"))
    assert segment(frame)[1] == 1001
    client.receive(server.frame(ACK, 1001, ours, b"earl"))
    (frame,) = client.receive(server.frame(ACK, 1001, ours, b"earl"))
    assert segment(frame)[1] == 1005
    assert client.received == b"earl"


def test_what_was_lost_can_be_sent_again() -> None:
    client = TcpClient(HERE, THERE, REQUEST, 5)
    assert client.start() == client.again()
    client, _server, _ = connected()
    assert segment(client.again()[0])[3] == REQUEST


def test_an_unexpected_connection_is_reset() -> None:
    client, _server, ours = connected()
    (frame,) = client.abort()
    assert segment(frame)[:3] == (ours, 1001, RST | ACK)


def test_a_long_request_goes_in_several_segments() -> None:
    request = bytes(range(256)) * 20
    client, server = TcpClient(HERE, THERE, request, 5), Server()
    client.start()
    frames = client.receive(server.frame(SYN | ACK, 1000, 6))
    assert len(frames) == 4
    assert b"".join(segment(frame)[3] for frame in frames) == request
    assert [segment(frame)[0] for frame in frames] == [6, 1406, 2806, 4206]


@given(st.binary(max_size=200))
def test_any_other_frame_is_passed_over(frame: bytes) -> None:
    client, _server, _ = connected()
    assert client.receive(frame) == []
    assert client.received == b""


@given(st.integers(0, 53), st.integers(1, 255))
def test_a_frame_of_another_connection_is_passed_over(at: int, change: int) -> None:
    """Whatever is changed of addresses and ports; the MAC that it is for may be any."""
    client, server, ours = connected()
    frame = bytearray(server.frame(ACK, 1001, ours, b"data"))
    frame[at] ^= change
    client.receive(bytes(frame))
    identity = {12, 13, *range(26, 38), 23}
    assert (client.received == b"") or at not in identity


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.randoms(use_true_random=False))
def test_segments_in_any_order_arrive_whole_if_they_are_sent_until_acknowledged(
    parts: list[bytes], order: "object"
) -> None:
    client, server, ours = connected()
    starts = [1001 + sum(map(len, parts[:index])) for index in range(len(parts))]
    sent = list(zip(starts, parts, strict=True))
    for _ in parts:
        order.shuffle(sent)  # type: ignore[attr-defined]
        for start, part in sent:
            client.receive(server.frame(ACK, start, ours, part))
    assert client.received == b"".join(parts)
