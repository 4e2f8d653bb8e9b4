"""One real request through the switch, as if the guest had sent it, that the guest never sees.

Frames are handed to the switch over the bridge's management socket as if they had come in by the
guest's port (OFPT_PACKET_OUT to its tables), from an address that no guest has on its network: one
of loopback. They take the way of all requests: hook, metadata port, listening socket, worker, Nova,
and back out of the guest's port. There they are picked up as they pass its device (packet(7)). The
guest drops them, and forwards them nowhere: no host takes a packet for a loopback address from a
network (RFC 1122, section 3.2.1.3).

Blocking, on one thread; lives as long as one call of `ask`.
"""

import contextlib
import http.client
import io
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from netaddr import IPAddress

from ovs_metadata.cli.doctor.tcp_client import TcpClient
from ovs_metadata.flows import wire
from ovs_metadata.flows.connection import OpenFlowConnection
from ovs_metadata.flows.family import ETH_IPV4, ETH_VLAN
from ovs_metadata.flows.packets import End, tagged
from ovs_metadata.host.address import (
    METADATA_PORT_MAC,
    SERVICE_IPV4,
    SERVICE_PORT,
    ofport_at,
    vlan_at,
)
from ovs_metadata.host.config import Config
from ovs_metadata.proxy.accounting.observer import DOCTOR_IPV4
from ovs_metadata.proxy.guest.socket_program import ATTACH_FILTER, attach

PATH = "/openstack/latest/meta_data.json"

SOURCE_MAC = "02:00:a9:fe:00:d0"
SOURCE_ADDRESS = DOCTOR_IPV4
"""Who asks: a locally administered MAC, and a loopback address."""

FIRST_CLIENT_PORT, CLIENT_PORTS = 20000, 8192
"""TCP ports to ask from: below those that operating systems pick for themselves."""

RESEND_INTERVAL = 1.0
"""Seconds after which what was sent last is sent again."""

UNANSWERED_AFTER = 5.0
"""Seconds within which the proxy has to accept the connection."""

MAX_ANSWER = 1024 * 1024

_ETH_P_ALL = 3
_ETHERTYPE_AT, _DESTINATION_AT = 12, 30
"""Where they begin in a frame without a tag."""
_TAG = 4
"""Bytes of a tag, before the EtherType."""
_MAX_FRAME = 65536 + 64


class NotPossible(Exception):
    """No request can be sent for this port without disturbing its guest; says why."""


@dataclass(frozen=True, slots=True)
class Response:
    """What became of a request. `status` is None without a whole answer; `body` is not for eyes."""

    connected: bool
    refused: bool = False
    status: int | None = None
    body: bytes = b""


def ask(config: Config, place: int, device: str, timeout: float) -> Response:
    """Ask for the metadata of the instance behind a port.

    Args:
        config: which bridge.
        place: of the port (host/address.py).
        device: the name of its network device.
        timeout: seconds the whole may take.

    Raises:
        NotPossible: the port has no network device here.
        OSError: the management socket cannot be reached, or refuses.
    """
    vlan = vlan_at(place)
    with contextlib.ExitStack() as opened:
        tap = opened.enter_context(_listen_on(device))
        switch = opened.enter_context(OpenFlowConnection(config.management_socket))

        def send(frames: list[bytes]) -> None:
            if vlan:
                frames = [tagged(frame, vlan) for frame in frames]
            switch.send(*(wire.packet_out_message(ofport_at(place), frame) for frame in frames))

        client = _client()
        try:
            send(client.start())
            _converse(client, tap, send, timeout)
        finally:
            if not client.finished:
                send(client.abort())
        # Whatever was sent has been carried out when the switch answers this.
        switch.send(wire.barrier_message())
        switch.receive(wire.BARRIER_REPLY)
    return _answer(client)


def _client() -> TcpClient:
    port = FIRST_CLIENT_PORT + secrets.randbelow(CLIENT_PORTS)
    request = (
        f"GET {PATH} HTTP/1.1\r\nHost: {SERVICE_IPV4}\r\n"
        "User-Agent: ovs-metadata-doctor\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    return TcpClient(
        End(SOURCE_MAC, SOURCE_ADDRESS, port),
        End(METADATA_PORT_MAC, SERVICE_IPV4, SERVICE_PORT),
        request.encode("ascii"),
        secrets.randbits(32),
    )


def _converse(
    client: TcpClient,
    tap: socket.socket,
    send: Callable[[list[bytes]], None],
    timeout: float,
) -> None:
    started = time.monotonic()
    resend_at = started + RESEND_INTERVAL
    while not (client.finished or client.refused or len(client.received) > MAX_ANSWER):
        now = time.monotonic()
        accepting = min(timeout, UNANSWERED_AFTER)
        deadline = started + (timeout if client.connected else accepting)
        if now >= deadline:
            return
        if now >= resend_at:
            if not client.received:
                send(client.again())
            resend_at = now + RESEND_INTERVAL
        tap.settimeout(max(0.001, min(deadline, resend_at) - now))
        with contextlib.suppress(TimeoutError):
            send(client.receive(_untagged(tap.recv(_MAX_FRAME))))


def _untagged(frame: bytes) -> bytes:
    """A frame without its tag, which it may have or not: the kernel keeps some tags beside it."""
    at = _ETHERTYPE_AT
    is_tagged = int.from_bytes(frame[at : at + 2], "big") == ETH_VLAN
    return frame[:at] + frame[at + _TAG :] if is_tagged else frame


def _listen_on(device: str) -> socket.socket:
    """A socket that sees what leaves the switch by a device for the address we ask from."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # of no protocol: it sees nothing yet
    try:
        _let_only_ours_in(tap)
        tap.bind((device, _ETH_P_ALL))
    except OSError as error:
        tap.close()
        raise NotPossible(f"device {device} cannot be listened on: {error.strerror}") from error
    return tap


def _let_only_ours_in(tap: socket.socket) -> None:
    """Have the kernel drop what is for another address (classic BPF, linux/filter.h)."""
    load_word, load_half, equal, jump, give_back = 0x20, 0x28, 0x15, 0x05, 0x06
    program = (
        (load_half, 0, 0, _ETHERTYPE_AT),
        (equal, 0, 2, ETH_IPV4),
        (load_word, 0, 0, _DESTINATION_AT),
        (jump, 0, 0, 4),
        (equal, 0, 5, ETH_VLAN),
        (load_half, 0, 0, _ETHERTYPE_AT + _TAG),
        (equal, 0, 3, ETH_IPV4),
        (load_word, 0, 0, _DESTINATION_AT + _TAG),
        (equal, 0, 1, int(IPAddress(SOURCE_ADDRESS))),
        (give_back, 0, 0, _MAX_FRAME),
        (give_back, 0, 0, 0),
    )
    attach(tap, ATTACH_FILTER, program)


class _Received:
    """What http.client reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_args: object, **_kwargs: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def _answer(client: TcpClient) -> Response:
    if not client.received:
        return Response(client.connected, client.refused)
    response = http.client.HTTPResponse(_Received(client.received))  # type: ignore[arg-type]
    try:
        response.begin()
        return Response(connected=True, status=response.status, body=response.read())
    except (http.client.HTTPException, ValueError):
        return Response(connected=True)
