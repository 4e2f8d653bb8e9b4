"""Has guests forget our MAC address: they ask anew who has the service address. Blocking.

A guest whose route to the service is link-local has learnt our MAC, and goes on sending to it until
its neighbour cache gives it up, up to a minute later. So when our flows are gone, the switch is
handed the question that the guest would then ask, as if it came in by the guest's port: an ARP
request (RFC 826) and a neighbour solicitation (RFC 4861). Whoever else has the service address, a
DHCP namespace of Neutron's for example, answers the guest, which replaces what it knew. Where
nobody answers, nothing changes.
"""

import struct
from collections.abc import Iterable, Iterator

from netaddr import EUI, IPAddress

from ovs_metadata.flows import openflow
from ovs_metadata.flows.conversation import Conversation
from ovs_metadata.host.address import SERVICE_IPV4, SERVICE_IPV6
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import ServedPort

ASK_AGAIN_AFTER = 1.2
"""Seconds after which guests are to be asked for once more. Linux keeps to an answer for a second
before it believes another (locktime, see arp(7)), and may have had ours just before."""

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_SOLICITATION = struct.Struct("!BBHI16sBB6s")
_PSEUDO_HEADER = struct.Struct("!16s16sII")
_BROADCAST = b"\xff" * 6
_SHORTEST_FRAME = 60
_ICMPV6 = 58


def ask_for_guests(config: Config, ports: Iterable[ServedPort]) -> None:
    """Ask on behalf of the guests behind these ports; the answers go to them.

    Raises:
        OSError: the management socket cannot be reached, or refuses.
    """
    offline = openflow.offline_datapath()
    with Conversation(config.management_socket) as switch:
        for port in ports:
            for frame in questions(port):
                switch.send(openflow.packet_out_message(offline, port.ofport, frame))
        switch.send(openflow.barrier_message(offline))
        switch.receive(openflow.BARRIER_REPLY)


def questions(port: ServedPort) -> Iterator[bytes]:
    """The frames in which a guest asks who has the service address."""
    addresses = [IPAddress(address) for address in port.record.fixed_ips]
    mac = EUI(port.record.mac_address)
    primary = next((address for address in addresses if address.version == 4), None)
    if primary is not None:
        yield _arp_request(mac.packed, primary.packed, IPAddress(SERVICE_IPV4).packed)
    yield _neighbor_solicitation(
        mac.packed, mac.ipv6_link_local().packed, IPAddress(SERVICE_IPV6).packed
    )


def _arp_request(mac: bytes, source: bytes, target: bytes) -> bytes:
    frame = _ETHERNET.pack(_BROADCAST, mac, 0x0806)
    frame += _ARP.pack(1, 0x0800, 6, 4, 1, mac, source, bytes(6), target)
    return frame.ljust(_SHORTEST_FRAME, b"\0")


def _neighbor_solicitation(mac: bytes, source: bytes, target: bytes) -> bytes:
    """To the solicited-node address of the target, with the source's MAC as an option."""
    destination = IPAddress("ff02::1:ff00:0").packed[:13] + target[13:]
    message = _SOLICITATION.pack(135, 0, 0, 0, target, 1, 1, mac)
    checked = _PSEUDO_HEADER.pack(source, destination, len(message), _ICMPV6) + message
    message = message[:2] + struct.pack("!H", _checksum(checked)) + message[4:]
    frame = _ETHERNET.pack(b"\x33\x33" + destination[12:], mac, 0x86DD)
    return frame + _IPV6.pack(6 << 28, len(message), _ICMPV6, 255, source, destination) + message


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of data of even length."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
