"""Frames that break the rules, and a capture that recognises them.

Each frame carries a text of its own, by which a capture recognises it anywhere.
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from os_ken.lib.packet import ethernet, icmp, icmpv6, ipv4, ipv6, packet, tcp, udp, vlan

from lab.rig.inside import inside
from lab.rig.process import wait_for

ETH_ALL, ETH_IPV4, ETH_IPV6 = 0x0003, 0x0800, 0x86DD
"""What a raw socket may ask for. The kernel takes a VLAN tag into account for all but the first."""
ETH_VLAN, ETH_SERVICE_VLAN = 0x8100, 0x88A8
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
SYN = 0x02

Tag = tuple[int, int]
"""EtherType and VLAN id of a tag."""


@dataclass(frozen=True)
class Frame:
    """A frame. `protocol` is "tcp" (a SYN), "udp" or "icmp" (an echo request)."""

    source_mac: str
    target_mac: str
    source: str
    target: str
    protocol: str
    port: int = 0
    tags: tuple[Tag, ...] = ()

    @property
    def text(self) -> bytes:
        """What it carries; no other frame does."""
        return repr(self).encode()

    def serialize(self) -> bytes:
        """Its bytes, without the check sequence."""
        is_ipv6 = ":" in self.target
        types = [kind for kind, _vid in self.tags] + [ETH_IPV6 if is_ipv6 else ETH_IPV4]
        made = packet.Packet()
        made.add_protocol(
            ethernet.ethernet(dst=self.target_mac, src=self.source_mac, ethertype=types[0])
        )
        for (kind, vid), following in zip(self.tags, types[1:], strict=True):
            tag = vlan.svlan if kind == ETH_SERVICE_VLAN else vlan.vlan
            made.add_protocol(tag(vid=vid, ethertype=following))
        protocol, segment = self._segment(is_ipv6)
        if is_ipv6:
            made.add_protocol(ipv6.ipv6(src=self.source, dst=self.target, nxt=protocol))
        else:
            made.add_protocol(ipv4.ipv4(src=self.source, dst=self.target, proto=protocol))
        made.add_protocol(segment)
        if self.protocol != "icmp":
            made.add_protocol(self.text)
        made.serialize()
        return bytes(made.data)

    def _segment(self, is_ipv6: bool) -> tuple[int, object]:
        if self.protocol == "tcp":
            return TCP, tcp.tcp(src_port=40000, dst_port=self.port, bits=SYN, seq=1)
        if self.protocol == "udp":
            return UDP, udp.udp(src_port=40000, dst_port=self.port)
        if is_ipv6:
            echo = icmpv6.icmpv6(icmpv6.ICMPV6_ECHO_REQUEST, data=icmpv6.echo(data=self.text))
            return socket.IPPROTO_ICMPV6, echo
        return socket.IPPROTO_ICMP, icmp.icmp(
            icmp.ICMP_ECHO_REQUEST, data=icmp.echo(data=self.text)
        )


@contextlib.contextmanager
def open_raw(namespace: str, device: str, ethertype: int = ETH_ALL) -> Iterator[socket.socket]:
    """A socket that sends and receives whole frames at a device."""
    with inside(namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
    with raw:
        raw.bind((device, ethertype))
        raw.setblocking(False)
        yield raw


class Witness:
    """Notes the frames that arrive at sockets of `open_raw`.

    All of them, or with `accepted` those alone that the kernel takes for its own: not what is
    addressed to another MAC, nor what is in a VLAN it has no device for.
    """

    def __init__(self, *sockets: socket.socket, accepted: bool = False) -> None:
        self._sockets = sockets
        self._accepted = accepted
        self._arrived: list[bytes] = []

    def saw(self, frame: Frame) -> bool:
        """Whether the frame has arrived by now."""
        for raw in self._sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, (_device, _ethertype, kind, *_rest) = raw.recvfrom(2048)
                    if not (self._accepted and kind == socket.PACKET_OTHERHOST):
                        self._arrived.append(data)
        return any(frame.text in data for data in self._arrived)

    def wait_until_seen(self, frame: Frame) -> None:
        """Wait until the frame arrives."""
        wait_for(lambda: self.saw(frame), f"a witness to see {frame}")
