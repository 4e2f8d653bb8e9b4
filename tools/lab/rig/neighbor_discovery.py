"""Neighbour discovery by hand (RFC 4861): solicitations sent from a guest, and what comes back.

A packet socket in the guest sees every frame its device receives, before the guest's kernel has
judged it. For the main thread only, as `lab.rig.inside` is.
"""

import select
import socket
import time
from dataclasses import dataclass
from typing import Self

from os_ken.lib.packet import ethernet, icmpv6, ipv6, packet, packet_utils

from lab.rig.guest import Guest
from lab.rig.inside import inside
from lab.rig.process import LabError

ETH_P_IPV6 = 0x86DD
SERVICE_MULTICAST = "ff02::1:fffe:a9fe"
"""The solicited-node multicast address of the service address (RFC 4291, section 2.7.1)."""
SERVICE_MULTICAST_MAC = "33:33:ff:fe:a9:fe"


@dataclass(frozen=True)
class Advertisement:
    """A neighbour advertisement as received. Flags as in RFC 4861, section 4.4.

    `target_mac` is that of its target link-layer address option, None without one.
    """

    eth_source: str
    eth_destination: str
    source: str
    destination: str
    hop_limit: int
    target: str
    router: bool
    solicited: bool
    override: bool
    target_mac: str | None
    checksum_is_right: bool


def solicitation(
    eth_source: str,
    eth_destination: str,
    source: str,
    destination: str,
    target: str,
    *,
    option: bool = True,
) -> bytes:
    """A neighbour solicitation for `target`; with its sender's MAC in an option, or without it."""
    sender = icmpv6.nd_option_sla(hw_src=eth_source) if option else None
    made = packet.Packet()
    made.add_protocol(ethernet.ethernet(eth_destination, eth_source, ETH_P_IPV6))
    made.add_protocol(
        ipv6.ipv6(src=source, dst=destination, nxt=socket.IPPROTO_ICMPV6, hop_limit=255)
    )
    question = icmpv6.nd_neighbor(dst=target, option=sender)
    made.add_protocol(icmpv6.icmpv6(type_=icmpv6.ND_NEIGHBOR_SOLICIT, data=question))
    made.serialize()
    return bytes(made.data)


def parse_advertisement(frame: bytes) -> Advertisement | None:
    """The neighbour advertisement in a frame; None when it is something else."""
    parsed = packet.Packet(frame)
    eth, ip, icmp = (
        parsed.get_protocol(kind) for kind in (ethernet.ethernet, ipv6.ipv6, icmpv6.icmpv6)
    )
    if icmp is None or icmp.type_ != icmpv6.ND_NEIGHBOR_ADVERT:
        return None
    payload = frame[-ip.payload_length :]
    option = icmp.data.option
    has_mac = isinstance(option, icmpv6.nd_option_tla)
    return Advertisement(
        eth_source=eth.src,
        eth_destination=eth.dst,
        source=ip.src,
        destination=ip.dst,
        hop_limit=ip.hop_limit,
        target=icmp.data.dst,
        # The three bits in front; the parser leaves out the reserved ones behind them.
        router=bool(icmp.data.res & 0b100),
        solicited=bool(icmp.data.res & 0b010),
        override=bool(icmp.data.res & 0b001),
        target_mac=option.hw_src if has_mac else None,
        checksum_is_right=packet_utils.checksum_ip(ip, len(payload), payload) == 0,
    )


class Wire:
    """A guest's end of its wire: frames as they come and go. Lives as long as its `with` block."""

    def __init__(self, guest: Guest, device: str = "eth0") -> None:
        with inside(guest.name):
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IPV6)
            )
            self._socket.bind((device, ETH_P_IPV6))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """Send a frame as it is."""
        self._socket.send(frame)

    def advertisement(self, timeout: float = 5.0) -> Advertisement:
        """The next neighbour advertisement received.

        Raises:
            LabError: there was none within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while select.select([self._socket], [], [], max(0, deadline - time.monotonic()))[0]:
            frame, (_device, _protocol, kind, *_) = self._socket.recvfrom(2048)
            found = None if kind == socket.PACKET_OUTGOING else parse_advertisement(frame)
            if found:
                return found
        raise LabError(f"no neighbour advertisement within {timeout:g} s")
