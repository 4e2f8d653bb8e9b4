"""One request through the switch: the switch and the tap are stand-ins, the client is real."""

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_doctor_tcp import ACK, FIN, PSH, RST, SYN, Server, segment

from ovs_metadata.cli.doctor import guest_request
from ovs_metadata.cli.doctor.guest_request import NotPossible, Response, ask
from ovs_metadata.cli.doctor.tcp_client import TcpClient
from ovs_metadata.flows import wire
from ovs_metadata.flows.packets import End
from ovs_metadata.host.config import Config, load

THEIRS = 1000
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Switch:
    """Takes packet-outs, and has `answers` say what comes back to each at the guest's device."""

    def __init__(self, device: socket.socket, answers: Callable[[bytes], list[bytes]]) -> None:
        self._device = device
        self._answers = answers
        self.frames: list[bytes] = []
        self.others: list[bytes] = []

    def __enter__(self) -> "Switch":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def send(self, *messages: bytes) -> None:
        for message in messages:
            if message == wire.barrier_message():
                self.others.append(message)
                continue
            self.frames.append(message)
            for frame in self._answers(message):
                self._device.send(frame)

    def receive(self, _kind: object) -> None:
        """The barrier's answer."""


class Rig:
    """Asks, and keeps what the switch was sent."""

    def __init__(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = config
        self._monkeypatch = monkeypatch
        self.server = Server()
        self.switch: Switch | None = None
        monkeypatch.setattr(guest_request, "RESEND_INTERVAL", 0.01)
        monkeypatch.setattr(wire, "packet_out_message", lambda _port, frame: frame)

    def ask(self, answers: Callable[[bytes], list[bytes]], timeout: float = 5.0) -> Response:
        device, tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with device:
            self.switch = Switch(device, answers)
            self._monkeypatch.setattr(guest_request, "_listen_on", lambda _device: tap)
            self._monkeypatch.setattr(
                guest_request, "OpenFlowConnection", lambda _socket: self.switch
            )
            return ask(self.config, 5, "tap1", timeout)

    def answering(self, answer: bytes, flags: int = FIN | ACK) -> Callable[[bytes], list[bytes]]:
        """Accept the connection, and answer the request."""

        def answers(frame: bytes) -> list[bytes]:
            sequence, _, sent, payload = segment(frame)
            if sent == SYN:
                self._to(frame)
                return [self.server.frame(SYN | ACK, THEIRS, sequence + 1)]
            if sent == PSH | ACK:
                return [self.server.frame(flags, THEIRS + 1, sequence + len(payload), answer)]
            return []

        return answers

    def _to(self, frame: bytes) -> None:
        """Speak to the TCP port that the client has chosen."""
        port = int.from_bytes(frame[34:36], "big")
        here = End(guest_request.SOURCE_MAC, guest_request.SOURCE_ADDRESS, port)
        there = End("02:00:a9:fe:a9:fe", "169.254.169.254", 80)
        self.server.speaker = TcpClient(there, here, b"")


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    path = tmp_path / "agent.conf"
    path.write_text("")
    return Rig(load(path), monkeypatch)


def flags_of(rig: Rig) -> list[int]:
    assert rig.switch
    return [segment(frame)[2] for frame in rig.switch.frames]


def test_an_answer_and_a_clean_end(rig: Rig) -> None:
    assert rig.ask(rig.answering(ANSWER)) == Response(connected=True, status=200, body=b"{}")
    assert flags_of(rig) == [SYN, PSH | ACK, FIN | ACK]
    assert rig.switch
    assert len(rig.switch.others) == 1, "the barrier"


@pytest.mark.parametrize("answer", [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 two hundred\r\n"])
def test_an_answer_that_is_no_http(rig: Rig, answer: bytes) -> None:
    assert rig.ask(rig.answering(answer)) == Response(connected=True)


def test_a_connection_that_is_refused(rig: Rig) -> None:
    def answers(frame: bytes) -> list[bytes]:
        rig._to(frame)
        return [rig.server.frame(RST | ACK, 0, segment(frame)[0] + 1)]

    assert rig.ask(answers) == Response(connected=False, refused=True)
    assert flags_of(rig) == [SYN]


def test_no_server_accepts(rig: Rig) -> None:
    assert rig.ask(lambda _frame: [], timeout=0.1) == Response(connected=False)
    assert len(flags_of(rig)) > 1, "the SYN is sent again"
    assert set(flags_of(rig)) == {SYN}


def test_a_connection_without_an_end_is_reset(rig: Rig) -> None:
    assert rig.ask(rig.answering(b"", ACK), timeout=0.1) == Response(connected=True)
    assert flags_of(rig)[-1] == RST | ACK


def test_a_device_that_is_not_here(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tap(contextlib.closing[Any]):
        def __init__(self, *_: object) -> None:
            super().__init__(self)
            self.is_closed = False

        def bind(self, address: tuple[str, int]) -> None:
            raise OSError(19, f"No such device: {address[0]}")

        def close(self) -> None:
            self.is_closed = True

    tap = Tap()
    monkeypatch.setattr(socket, "socket", lambda *_: tap)
    monkeypatch.setattr(guest_request, "attach", lambda *_: None)
    with pytest.raises(NotPossible, match="device tap9 cannot be listened on: No such device"):
        ask(rig.config, 5, "tap9", 1.0)
    assert tap.is_closed


def test_the_kernel_lets_in_what_is_for_the_doctor_and_nothing_else() -> None:
    def frame(ethertype: int, destination: str) -> bytes:
        head = bytes(12) + ethertype.to_bytes(2, "big") + bytes(16)
        return head + socket.inet_aton(destination) + b"rest"

    ours = frame(0x0800, guest_request.SOURCE_ADDRESS)
    others = (frame(0x0806, guest_request.SOURCE_ADDRESS), frame(0x0800, "10.0.0.5"), bytes(20))
    device, tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with device, tap:
        guest_request._let_only_ours_in(tap)
        for sent in (*others, ours):
            device.send(sent)
        assert tap.recv(2000) == ours
