"""A TCP client in a value: frames of Ethernet in, frames out. No I/O, no clock.

Just enough of TCP (RFC 9293) for one short request over a link that loses nothing: what arrives
out of order is not kept but asked for again, and its owner sends the last frames again when
nothing has come for a while. IPv4 only.
"""

import struct
from dataclasses import dataclass

from netaddr import IPAddress

from ovs_metadata.flows.packets import End, tcp_segment

_ETHERNET = struct.Struct("!6s6sH")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
_ETH_IPV4 = 0x0800
_PROTOCOL_TCP = 6

_FIN, _SYN, _RST, _PSH, _ACK = 0x01, 0x02, 0x04, 0x08, 0x10

_WINDOW = 65535
_SEGMENT = 1400
"""Bytes a segment may carry, either way."""

_SEQUENCES = 1 << 32


@dataclass(frozen=True, slots=True)
class _Segment:
    sequence: int
    acknowledged: int
    flags: int
    payload: bytes


class TcpClient:
    """Sends `request` over one connection, and keeps what comes back in `received`."""

    def __init__(self, here: End, there: End, request: bytes, first_sequence: int = 0) -> None:
        self._here = here
        self._there = there
        self._request = request
        self._sequence = first_sequence % _SEQUENCES
        self._expected = 0
        self._last: list[bytes] = []
        self.received = b""
        self.connected = False
        """Whether the other end has accepted the connection."""
        self.refused = False
        """Whether the other end has reset it."""
        self.finished = False
        """Whether the other end has sent all it had."""

    def start(self) -> list[bytes]:
        """The frames that begin the connection."""
        return self._send(_SYN)

    def again(self) -> list[bytes]:
        """The last frames that were sent, in case they were lost."""
        return self._last

    def abort(self) -> list[bytes]:
        """The frames that end it, if the other end has not; to be sent when its owner gives up."""
        if not self.connected or self.refused:
            return []
        return [self._frame(_RST | _ACK, self._sequence)]

    def receive(self, frame: bytes) -> list[bytes]:
        """The frames to send in answer to one that has arrived, whatever it is."""
        segment = self._parse(frame)
        if segment is None or self.refused:
            return []
        if segment.flags & _RST:
            self.refused = not self.finished
            return []
        if not self.connected:
            return self._accepted(segment)
        if segment.sequence != self._expected:
            return [self._frame(_ACK, self._sequence)]
        self.received += segment.payload
        self._expected = (self._expected + len(segment.payload)) % _SEQUENCES
        if segment.flags & _FIN and not self.finished:
            self.finished = True
            self._expected = (self._expected + 1) % _SEQUENCES
            return self._send(_FIN | _ACK)
        return [self._frame(_ACK, self._sequence)] if segment.payload else []

    def _accepted(self, segment: _Segment) -> list[bytes]:
        asked = (self._sequence + 1) % _SEQUENCES
        if segment.flags & _ACK and segment.acknowledged != asked:
            # The other end remembers a connection of before between the same ports (TIME-WAIT);
            # this has it forget that one (section 3.10.7.3).
            return [self._frame(_RST, segment.acknowledged)]
        if segment.flags & (_SYN | _ACK) != _SYN | _ACK:
            return []
        self.connected = True
        self._sequence = asked
        self._expected = (segment.sequence + 1) % _SEQUENCES
        frames = self._send(_PSH | _ACK, self._request)
        self._sequence = (self._sequence + len(self._request)) % _SEQUENCES
        return frames

    def _send(self, flags: int, payload: bytes = b"") -> list[bytes]:
        parts = [payload[at : at + _SEGMENT] for at in range(0, len(payload), _SEGMENT)] or [b""]
        self._last = [
            self._frame(flags, (self._sequence + number * _SEGMENT) % _SEQUENCES, part)
            for number, part in enumerate(parts)
        ]
        return self._last

    def _frame(self, flags: int, sequence: int, payload: bytes = b"") -> bytes:
        return tcp_segment(
            self._here,
            self._there,
            sequence=sequence,
            acknowledged=self._expected if flags & _ACK else 0,
            flags=flags,
            window=_WINDOW,
            max_segment=_SEGMENT if flags & _SYN else None,
            payload=payload,
        )

    def _parse(self, frame: bytes) -> _Segment | None:
        """The segment in a frame; None if it is not of this connection.

        Whose MAC it is for does not matter: answers are for that of the port's record. Checksums
        are not looked at: those of local traffic are often left to hardware.
        """
        try:
            _to, _source, kind = _ETHERNET.unpack_from(frame)
            packet = frame[_ETHERNET.size :]
            first, _tos, total, *_rest, protocol, _sum, source, destination = _IPV4.unpack_from(
                packet
            )
            segment = packet[(first & 0x0F) * 4 : total]
            here, there, sequence, acknowledged, offset, flags, _, _, _ = _TCP.unpack_from(segment)
        except struct.error:
            return None
        expected = (
            *(_ETH_IPV4, 4, _PROTOCOL_TCP),
            *(IPAddress(end.address).packed for end in (self._there, self._here)),
            *(self._there.port, self._here.port),
        )
        found = (kind, first >> 4, protocol, source, destination, here, there)
        if found != expected:
            return None
        return _Segment(sequence, acknowledged, flags, segment[(offset >> 4) * 4 :])
