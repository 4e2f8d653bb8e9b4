"""No packet that opens a connection leaves the metadata port, not even from a broken worker."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from netaddr import EUI
from os_ken.lib.packet import ethernet, ipv4, ipv6, packet, tcp

from lab.rig.frames import ETH_IPV4, ETH_IPV6, TCP, open_raw
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.inside import inside
from lab.rig.process import wait_for
from ovs_metadata.host.address import (
    METADATA_PORT,
    METADATA_PORT_MAC,
    PROXY_PORT,
    SERVICE_IPV4,
    SERVICE_IPV6,
    SERVICE_PORT,
    IpVersion,
    port_address,
)

IPV6_FREEBIND = 78
"""Of linux/in6.h: the address need not be one of a device."""

OPEN_PORT = 2222
"""A TCP port on which something of the guest's own listens."""


@pytest.fixture(scope="module")
def guest(hypervisor: Hypervisor) -> Iterator[Guest]:
    guest = hypervisor.add_guest("listening")
    hypervisor.wait_until_served(guest)
    with inside(guest.name):
        listener = socket.create_server(
            ("::", OPEN_PORT), family=socket.AF_INET6, dualstack_ipv6=True
        )
    with listener:
        yield guest


def _dropped(hypervisor: Hypervisor) -> int:
    """Packets that MetadataFromProxy has dropped."""
    flows = hypervisor.flows("table=201").splitlines()
    (flow,) = (flow for flow in flows if "priority=0 actions=drop" in flow)
    return int(flow.partition("n_packets=")[2].partition(",")[0])


@pytest.mark.parametrize("version", [4, 6])
def test_the_proxys_own_address_and_port_open_no_connection_to_a_guest(
    hypervisor: Hypervisor, guest: Guest, version: IpVersion
) -> None:
    assert guest.identity() == guest.instance_id, "the way back is there"
    source = port_address(hypervisor.ovs.ofport(guest.tap), version)
    link_local = str(EUI(guest.mac).ipv6_link_local())
    before = _dropped(hypervisor)
    with inside(hypervisor.metadata_namespace):
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        attacker = socket.socket(family, socket.SOCK_STREAM)
        zone = socket.if_nametoindex(METADATA_PORT)
    with attacker:
        # The listeners of the agent have the ports; their worker could do the same by shutdown().
        attacker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        attacker.setblocking(False)
        end: tuple[str | int, ...]
        if version == 4:
            attacker.bind((source, PROXY_PORT))
            end = (guest.ip, OPEN_PORT)
        else:
            attacker.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            attacker.bind((source, PROXY_PORT, 0, zone))
            end = (link_local, OPEN_PORT, 0, zone)
        with contextlib.suppress(BlockingIOError):
            attacker.connect(end)
        wait_for(lambda: _dropped(hypervisor) > before, "its SYN to be dropped")
        with pytest.raises(OSError, match="not connected"):
            attacker.getpeername()


@pytest.mark.parametrize("version", [4, 6])
def test_a_reset_reaches_the_guest(guest: Guest, version: IpVersion) -> None:
    """Of a connection that is gone: such a RST has no ACK (RFC 9293, 3.10.7.1)."""
    link_local = str(EUI(guest.mac).ipv6_link_local())
    source, target = ((guest.ip, SERVICE_IPV4), (link_local, SERVICE_IPV6))[version == 6]
    sent = packet.Packet()
    ethertype = ETH_IPV4 if version == 4 else ETH_IPV6
    sent.add_protocol(ethernet.ethernet(METADATA_PORT_MAC, guest.mac, ethertype))
    if version == 4:
        sent.add_protocol(ipv4.ipv4(src=source, dst=target, proto=TCP))
    else:
        sent.add_protocol(ipv6.ipv6(src=source, dst=target, nxt=TCP))
    sent.add_protocol(tcp.tcp(src_port=40001, dst_port=SERVICE_PORT, bits=tcp.TCP_ACK, ack=7))
    sent.serialize()
    with open_raw(guest.name, "eth0") as wire:
        wire.settimeout(10)
        wire.send(bytes(sent.data))
        flags = None
        while flags is None:
            segment = packet.Packet(wire.recv(2048)).get_protocol(tcp.tcp)
            if segment is not None and segment.src_port == SERVICE_PORT:
                flags = segment.bits
    assert flags == tcp.TCP_RST
