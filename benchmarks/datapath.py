"""What our flows cost ordinary traffic: datapath flows and upcalls, counted, with and without them.

One guest sends 500 packets of a kind, each to another target, by the other guest's MAC. How many
datapath flows and upcalls that takes depends on nothing but flows and packets, so counts are the
same on any machine, and a test holds them (functional_tests/test_datapath_cost.py). As root:

    PYTHONPATH=tools .venv/bin/python -m benchmarks.datapath
"""

import argparse
import json
import os
import random
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address

from os_ken.lib.packet import arp, ethernet, icmp, icmpv6, ipv4, ipv6, packet, tcp, udp

from lab.rig.frames import open_raw
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import wait_for

TARGETS = 500
SEED = 1795776107
BROADCAST = "ff:ff:ff:ff:ff:ff"
ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD

Target = Callable[[random.Random], str]


def _anywhere(rnd: random.Random) -> str:
    return str(IPv4Address(rnd.randrange(0x01000000, 0xA9FE0000)))


def _anywhere6(rnd: random.Random) -> str:
    return str(IPv6Address((0x20010DB8 << 96) + rnd.getrandbits(96)))


def _on_the_link(rnd: random.Random) -> str:
    return str(IPv6Address((0xFE80 << 112) + rnd.getrandbits(64)))


@dataclass(frozen=True)
class Kind:
    """One kind of traffic. `multicast`: it is sent to a MAC that the target's address gives."""

    name: str
    target: Target
    protocol: str
    multicast: bool = False

    @property
    def ethertype(self) -> int:
        """What its frames carry."""
        if self.protocol == "arp":
            return ARP
        return IPV4 if self.target is _anywhere else IPV6


KINDS = (
    Kind("TCP over IPv4", _anywhere, "tcp"),
    Kind("UDP over IPv4", _anywhere, "udp"),
    Kind("ICMP over IPv4", _anywhere, "icmp"),
    Kind("TCP over IPv6", _anywhere6, "tcp"),
    Kind("UDP over IPv6", _anywhere6, "udp"),
    Kind("ICMP over IPv6", _anywhere6, "icmp"),
    Kind("TCP to fe80::/64", _on_the_link, "tcp"),
    Kind("UDP to fe80::/64", _on_the_link, "udp"),
    Kind("ICMP to fe80::/64", _on_the_link, "icmp"),
    Kind("solicitation, multicast", _on_the_link, "solicitation", multicast=True),
    Kind("solicitation, unicast", _on_the_link, "solicitation"),
    Kind("advertisement", _on_the_link, "advertisement"),
    Kind("ARP, broadcast", _anywhere, "arp", multicast=True),
    Kind("ARP, unicast", _anywhere, "arp"),
)


@dataclass(frozen=True)
class Cost:
    """What the packets of one kind took."""

    datapath_flows: int
    upcalls: int


def frames(kind: Kind, sender: Guest, receiver: Guest, count: int) -> Iterator[bytes]:
    """`count` frames to as many targets, the same ones every time."""
    rnd = random.Random(SEED)  # noqa: S311 - the same targets every time
    for _ in range(count):
        yield _frame(kind, sender, receiver, kind.target(rnd))


def _frame(kind: Kind, sender: Guest, receiver: Guest, target: str) -> bytes:
    made = packet.Packet()
    mac = receiver.mac
    if kind.protocol == "arp":
        mac = BROADCAST if kind.multicast else mac
        made.add_protocol(ethernet.ethernet(mac, sender.mac, ARP))
        made.add_protocol(arp.arp(src_mac=sender.mac, src_ip=sender.ip, dst_ip=target))
    elif ":" in target:
        source, destination = "fe80::5", target
        if kind.multicast:
            low = int(IPv6Address(target)) & 0xFFFFFF
            mac = "33:33:ff:" + low.to_bytes(3, "big").hex(":")
            destination = str(IPv6Address((0xFF02 << 112) + (0x1FF << 24) + low))
        made.add_protocol(ethernet.ethernet(mac, sender.mac, IPV6))
        number, segment = _segment6(kind.protocol, target, sender)
        made.add_protocol(ipv6.ipv6(src=source, dst=destination, nxt=number, hop_limit=255))
        made.add_protocol(segment)
    else:
        made.add_protocol(ethernet.ethernet(mac, sender.mac, IPV4))
        number, segment = _segment4(kind.protocol)
        made.add_protocol(ipv4.ipv4(src=sender.ip, dst=target, proto=number))
        made.add_protocol(segment)
    made.serialize()
    return bytes(made.data)


def _segment4(protocol: str) -> tuple[int, object]:
    if protocol == "icmp":
        return socket.IPPROTO_ICMP, icmp.icmp(icmp.ICMP_ECHO_REQUEST, data=icmp.echo(data=b"x"))
    return _segment(protocol)


def _segment6(protocol: str, target: str, sender: Guest) -> tuple[int, object]:
    if protocol in {"tcp", "udp"}:
        return _segment(protocol)
    if protocol == "icmp":
        kind, data = icmpv6.ICMPV6_ECHO_REQUEST, icmpv6.echo(data=b"x")
    elif protocol == "solicitation":
        kind = icmpv6.ND_NEIGHBOR_SOLICIT
        data = icmpv6.nd_neighbor(dst=target, option=icmpv6.nd_option_sla(hw_src=sender.mac))
    else:
        kind = icmpv6.ND_NEIGHBOR_ADVERT
        data = icmpv6.nd_neighbor(dst=target, option=icmpv6.nd_option_tla(hw_src=sender.mac))
    return socket.IPPROTO_ICMPV6, icmpv6.icmpv6(kind, data=data)


def _segment(protocol: str) -> tuple[int, object]:
    if protocol == "tcp":
        return socket.IPPROTO_TCP, tcp.tcp(src_port=40000, dst_port=443, bits=tcp.TCP_SYN)
    return socket.IPPROTO_UDP, udp.udp(src_port=40000, dst_port=53)


def measure(hypervisor: Hypervisor, kind: Kind, count: int = TARGETS) -> Cost:
    """Send them, from the first guest to the second, and count; nothing else is cached before."""
    sender, receiver = hypervisor.guests[:2]
    hypervisor.ovs.appctl("revalidator/purge")
    before = _upcalls(hypervisor)
    received = _received(hypervisor, sender)
    with open_raw(sender.name, "eth0") as wire:
        for number, frame in enumerate(frames(kind, sender, receiver, count), 1):
            wire.send(frame)
            if number % 50 == 0 or number == count:
                wait_for(
                    lambda: _received(hypervisor, sender) >= received + number,  # noqa: B023
                    f"{number} packets to be switched",
                )
    flows = [
        line for line in _datapath_flows(hypervisor) if f"eth_type({kind.ethertype:#06x})" in line
    ]
    return Cost(len(flows), _upcalls(hypervisor) - before)


def _datapath_flows(hypervisor: Hypervisor) -> list[str]:
    text = hypervisor.ovs.appctl("dpctl/dump-flows", "netdev@ovs-netdev")
    return [line for line in text.splitlines() if "recirc_id" in line]


def _upcalls(hypervisor: Hypervisor) -> int:
    text = hypervisor.ovs.appctl("dpif-netdev/pmd-stats-show")
    return sum(map(int, re.findall(r"miss with success upcall: (\d+)", text)))


def _received(hypervisor: Hypervisor, guest: Guest) -> int:
    """Packets that the switch has had from a guest; OVSDB has the number only every 5 s."""
    ofport = hypervisor.ovs.ofport(guest.tap)
    text = hypervisor.ovs.ofctl("dump-ports", hypervisor.bridge, str(ofport))
    return int(text.partition("rx pkts=")[2].partition(",")[0])


def without_and_with_our_flows(
    hypervisor: Hypervisor, kinds: tuple[Kind, ...] = KINDS, count: int = TARGETS
) -> tuple[Mapping[str, Cost], Mapping[str, Cost]]:
    """Start a hypervisor with two guests and measure each kind twice."""
    hypervisor.start()
    hypervisor.start_metadata_service()
    hypervisor.add_guest("one", mac="fa:16:3e:00:00:01", address="10.0.0.5/24")
    hypervisor.add_guest("two", mac="fa:16:3e:00:00:02", address="10.0.0.6/24")
    for guest in hypervisor.guests:
        # Of the kernel's own, IPv6 announces things by itself for a while.
        guest.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    without = {kind.name: measure(hypervisor, kind, count) for kind in kinds}
    hypervisor.start_agent()
    for guest in hypervisor.guests:
        hypervisor.wait_until_served(guest)
    return without, {kind.name: measure(hypervisor, kind, count) for kind in kinds}


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--targets", type=int, default=TARGETS)
    arguments.add_argument("--format", choices=["table", "json"], default="table")
    options = arguments.parse_args()
    count = options.targets
    hypervisor = Hypervisor(f"dp{os.getpid()}")
    try:
        without, ours = without_and_with_our_flows(hypervisor, count=count)
        version = hypervisor.ovs.vsctl("--version").splitlines()[0]
    finally:
        hypervisor.close()
    if options.format == "json":
        both = {
            name: {"without": asdict(cost), "with": asdict(ours[name])}
            for name, cost in without.items()
        }
        print(json.dumps(both))
        return
    print(version)
    print(f"{count} packets to {count} targets   without our flows       with our flows")
    print(f"{'':25}" + f"{'flows':>10}{'upcalls':>12}" * 2)
    for name, cost in without.items():
        there = ours[name]
        row = (cost.datapath_flows, cost.upcalls, there.datapath_flows, there.upcalls)
        print(f"{name:25}" + "".join(f"{n:>{w}}" for n, w in zip(row, (10, 12) * 2, strict=True)))


if __name__ == "__main__":
    main()
