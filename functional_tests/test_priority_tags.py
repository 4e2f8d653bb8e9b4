"""A frame tagged with VLAN 0 carries a priority and is in no VLAN (IEEE 802.1Q): it is answered."""

import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from netaddr import EUI
from os_ken.lib.packet import arp, ethernet, packet, tcp

from lab.rig.frames import ETH_ALL, ETH_VLAN, Frame, open_raw
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.neighbor_discovery import (
    SERVICE_MULTICAST,
    SERVICE_MULTICAST_MAC,
    parse_advertisement,
    solicitation,
)
from lab.rig.process import wait_for
from ovs_metadata.host.address import METADATA_PORT_MAC, SERVICE_IPV4, SERVICE_IPV6, SERVICE_PORT

TAGS = {"priority 0": 0x0000, "priority 3": 0x6000, "priority 7, drop eligible": 0xF000}
SYN_ACK = 0x12


@pytest.fixture(scope="module")
def guest(hypervisor: Hypervisor) -> Guest:
    guest = hypervisor.add_guest("tagging")
    hypervisor.wait_until_served(guest)
    return guest


@pytest.fixture
def wire(guest: Guest) -> Iterator[socket.socket]:
    with open_raw(guest.name, "eth0", ETH_ALL) as wire:
        wire.setblocking(False)
        yield wire


def _ask(
    wire: socket.socket, frame: bytes, tci: int, is_answer: Callable[[bytes], bool], what: str
) -> None:
    def answered() -> bool:
        try:
            received, (_device, _protocol, kind, *_) = wire.recvfrom(2048)
        except BlockingIOError:
            return False
        return kind != socket.PACKET_OUTGOING and is_answer(received)

    wire.send(frame[:12] + struct.pack("!HH", ETH_VLAN, tci) + frame[12:])
    wait_for(answered, what)


def _is_syn_ack(frame: bytes) -> bool:
    segment = packet.Packet(frame).get_protocol(tcp.tcp)
    return segment is not None and segment.src_port == SERVICE_PORT and segment.bits == SYN_ACK


def _is_arp_reply(frame: bytes) -> bool:
    reply = packet.Packet(frame).get_protocol(arp.arp)
    return reply is not None and (reply.opcode, reply.src_mac) == (arp.ARP_REPLY, METADATA_PORT_MAC)


@pytest.mark.parametrize("tci", TAGS.values(), ids=TAGS)
def test_a_priority_tagged_request_is_answered(guest: Guest, wire: socket.socket, tci: int) -> None:
    link_local = str(EUI(guest.mac).ipv6_link_local())
    for source, target in ((guest.ip, SERVICE_IPV4), (link_local, SERVICE_IPV6)):
        frame = Frame(guest.mac, METADATA_PORT_MAC, source, target, "tcp", SERVICE_PORT)
        _ask(wire, frame.serialize(), tci, _is_syn_ack, f"the answer of {target} to a SYN")


@pytest.mark.parametrize("tci", TAGS.values(), ids=TAGS)
def test_who_asks_for_the_mac_with_a_priority_tag_is_answered(
    guest: Guest, wire: socket.socket, tci: int
) -> None:
    question = packet.Packet()
    question.add_protocol(
        ethernet.ethernet(dst="ff:ff:ff:ff:ff:ff", src=guest.mac, ethertype=0x806)
    )
    question.add_protocol(
        arp.arp(
            src_mac=guest.mac, src_ip=guest.ip, dst_mac="00:00:00:00:00:00", dst_ip=SERVICE_IPV4
        )
    )
    question.serialize()
    _ask(wire, bytes(question.data), tci, _is_arp_reply, "the answer to an ARP request")
    link_local = str(EUI(guest.mac).ipv6_link_local())
    frame = solicitation(
        guest.mac, SERVICE_MULTICAST_MAC, link_local, SERVICE_MULTICAST, SERVICE_IPV6
    )
    _ask(
        *(wire, frame, tci, lambda answer: parse_advertisement(answer) is not None),
        "a neighbour advertisement",
    )
