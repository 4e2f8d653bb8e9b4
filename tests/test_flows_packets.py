"""Frames are those that the OpenFlow library makes of the same values."""

from typing import Any

import pytest
from os_ken.lib.packet import arp, ethernet, icmpv6, ipv4, ipv6, packet, tcp

from ovs_metadata.flows.packets import (
    End,
    arp_request,
    neighbor_solicitation,
    tcp_segment,
    unsolicited_advertisement,
)

MAC, OTHER_MAC = "fa:16:3e:00:00:01", "02:00:a9:fe:a9:fe"
GUEST, SERVICE = "10.0.0.5", "169.254.169.254"


def by_the_library(*layers: Any) -> bytes:
    whole = packet.Packet(protocols=list(layers))
    whole.serialize()
    return bytes(whole.data)


def test_an_arp_request_is_the_librarys() -> None:
    expected = by_the_library(
        ethernet.ethernet("ff:ff:ff:ff:ff:ff", MAC, 0x0806),
        arp.arp(opcode=1, src_mac=MAC, src_ip=GUEST, dst_mac="00:00:00:00:00:00", dst_ip=SERVICE),
    )
    assert arp_request(MAC, GUEST) == expected


def test_a_neighbour_solicitation_is_the_librarys() -> None:
    question = icmpv6.nd_neighbor(dst="fe80::a9fe:a9fe", option=icmpv6.nd_option_sla(hw_src=MAC))
    expected = by_the_library(
        ethernet.ethernet("33:33:ff:fe:a9:fe", MAC, 0x86DD),
        ipv6.ipv6(src="fe80::5", dst="ff02::1:fffe:a9fe", nxt=58, hop_limit=255),
        icmpv6.icmpv6(type_=135, data=question),
    )
    assert neighbor_solicitation(MAC, "fe80::5") == expected


def test_an_advertisement_is_the_librarys() -> None:
    option = icmpv6.nd_option_tla(hw_src=MAC)
    answer = icmpv6.nd_neighbor(res=1, dst="fe80::a9fe:a9fe", option=option)
    expected = by_the_library(
        ethernet.ethernet("33:33:00:00:00:01", MAC, 0x86DD),
        ipv6.ipv6(src="fe80::a9fe:a9fe", dst="ff02::1", nxt=58, hop_limit=255),
        icmpv6.icmpv6(type_=136, data=answer),
    )
    assert unsolicited_advertisement(MAC) == expected


@pytest.mark.parametrize("payload", [b"", b"odd", b"even", bytes(range(256)) * 5])
@pytest.mark.parametrize("max_segment", [None, 1400])
def test_a_segment_is_the_librarys(payload: bytes, max_segment: int | None) -> None:
    expected = by_the_library(
        ethernet.ethernet(OTHER_MAC, MAC, 0x0800),
        ipv4.ipv4(src=GUEST, dst=SERVICE, proto=6, flags=2, ttl=64),
        tcp.tcp(
            src_port=4711,
            dst_port=80,
            seq=2**32 - 1,
            ack=8,
            bits=0x18,
            window_size=65535,
            option=[tcp.TCPOptionMaximumSegmentSize(max_segment)] if max_segment else None,
        ),
        payload,
    )
    assert expected == tcp_segment(
        End(MAC, GUEST, 4711),
        End(OTHER_MAC, SERVICE, 80),
        sequence=2**32 - 1,
        acknowledged=8,
        flags=0x18,
        window=65535,
        max_segment=max_segment,
        payload=payload,
    )
