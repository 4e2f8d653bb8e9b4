"""What one guest's flood costs Open vSwitch, and the guest beside it.

For some seconds a guest sends frames at a steady rate, each unlike the others in what the kind of
flood is about. Beside it another guest asks for its metadata, opens connections to the service, and
opens connections to a neighbour, each time new ones. Counted are upcalls; ovs-vswitchd's processor
time and the bystander's times belong to the machine and are to be compared within one run. The
first kind is no flood; floods of a neighbour, and questions for an address that no host has, show
what switching costs without us. As root:

    PYTHONPATH=tools .venv/bin/python -m benchmarks.flood
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from os_ken.lib.packet import arp, ethernet, icmpv6, ipv4, ipv6, packet, tcp

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.inside import http_server
from lab.rig.process import wait_for
from lab.rig.usage import Usage
from ovs_metadata.host.address import (
    METADATA_PORT_MAC,
    SERVICE_IPV4,
    SERVICE_IPV6,
    SERVICE_PORT,
)

RATE = 20_000
SECONDS = 5.0
SEED = 1795776107
SECOND_ADDRESS = "10.0.0.99"
NEIGHBOUR_PORT = 8080
BROADCAST = "ff:ff:ff:ff:ff:ff"
UNUSED_IPV4, UNUSED_IPV6 = "10.0.0.250", "fe80::a9fe:a9ff"
"""Addresses that no host has."""
INTERVAL = 0.01
"""Seconds between two requests of the bystander."""


@dataclass(frozen=True)
class Flood:
    """One kind.

    elsewhere: TCP to the guest beside, a question for an address that no host has; not to the
    service. random_macs, random_routers: each frame comes from another MAC, goes to another one.
    """

    name: str
    protocol: str = "tcp"
    source: str = "any"
    elsewhere: bool = False
    random_macs: bool = False
    random_routers: bool = False


FLOODS = (
    Flood("nobody", protocol=""),
    Flood("a neighbour, own address", source="own", elsewhere=True),
    Flood("a neighbour, any source", elsewhere=True),
    Flood("a neighbour, any MAC", source="own", elsewhere=True, random_macs=True),
    Flood("the service, own address", source="own"),
    Flood("the service, second address", source="second"),
    Flood("the service, any source"),
    Flood("the service, any fe80::", protocol="tcp6"),
    Flood("the service, by any router", source="own", random_routers=True),
    Flood("ARP for an unused address", protocol="arp", elsewhere=True),
    Flood("ARP for the service", protocol="arp"),
    Flood("unused address, solicited", protocol="solicitation", elsewhere=True),
    Flood(
        "unused, solicited by any MAC", protocol="solicitation", elsewhere=True, random_macs=True
    ),
    Flood("solicitations of the service", protocol="solicitation"),
)


@dataclass(frozen=True)
class Cost:
    """What a flood came to; times of the bystander in milliseconds, median and 99th percentile.

    metadata: of a request. service, neighbour: of opening a connection.
    """

    sent: int
    upcalls: int
    cpu: Mapping[str, float] = field(default_factory=dict)
    metadata: tuple[float, float] = (0.0, 0.0)
    service: tuple[float, float] = (0.0, 0.0)
    neighbour: tuple[float, float] = (0.0, 0.0)
    failed: int = 0


def frames(flood: Flood, sender: Guest, neighbour: Guest, count: int) -> Iterator[bytes]:
    """As many frames, the same ones every time."""
    rnd = random.Random(SEED)  # noqa: S311 - the same frames every time
    for _ in range(count):
        yield _frame(flood, sender, neighbour, rnd)


def _frame(flood: Flood, sender: Guest, neighbour: Guest, rnd: random.Random) -> bytes:
    mac = f"02:{rnd.getrandbits(40).to_bytes(5, 'big').hex(':')}"
    source_mac = mac if flood.random_macs else sender.mac
    link_local = str(IPv6Address((0xFE80 << 112) + rnd.getrandbits(64)))
    anywhere = str(IPv4Address(rnd.randrange(0x01000000, 0x7F000000)))
    source = {"own": sender.ip, "second": SECOND_ADDRESS, "any": anywhere}[flood.source]
    syn = tcp.tcp(
        src_port=rnd.randrange(1024, 65536), dst_port=SERVICE_PORT, bits=tcp.TCP_SYN, seq=1
    )
    if flood.protocol == "arp":
        target = UNUSED_IPV4 if flood.elsewhere else SERVICE_IPV4
        question = arp.arp(src_mac=source_mac, src_ip=source, dst_ip=target)
        return _made(
            ethernet.ethernet(BROADCAST, source_mac, ethernet.ether.ETH_TYPE_ARP), question
        )
    if flood.protocol == "solicitation":
        option = icmpv6.nd_option_sla(hw_src=source_mac)
        target = UNUSED_IPV6 if flood.elsewhere else SERVICE_IPV6
        last = IPv6Address(target).packed[-3:]
        question = icmpv6.nd_neighbor(dst=target, option=option)
        group = str(IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:-3] + last))
        group_mac = f"33:33:ff:{last.hex(':')}"
        return _made(
            ethernet.ethernet(group_mac, source_mac, ethernet.ether.ETH_TYPE_IPV6),
            ipv6.ipv6(src=link_local, dst=group, nxt=58, hop_limit=255),
            icmpv6.icmpv6(icmpv6.ND_NEIGHBOR_SOLICIT, data=question),
        )
    if flood.protocol == "tcp6":
        return _made(
            ethernet.ethernet(METADATA_PORT_MAC, source_mac, ethernet.ether.ETH_TYPE_IPV6),
            ipv6.ipv6(src=link_local, dst=SERVICE_IPV6, nxt=6, hop_limit=64),
            syn,
        )
    target_mac = neighbour.mac if flood.elsewhere else METADATA_PORT_MAC
    if flood.random_routers:
        target_mac = mac
    return _made(
        ethernet.ethernet(target_mac, source_mac),
        ipv4.ipv4(src=source, dst=neighbour.ip if flood.elsewhere else SERVICE_IPV4, proto=6),
        syn,
    )


def _made(*headers: object) -> bytes:
    made = packet.Packet(protocols=list(headers))
    made.serialize()
    return bytes(made.data)


_SEND = """
import pathlib, socket, sys, time
rate, seconds, path = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
data = pathlib.Path(path).read_bytes()
frames, at = [], 0
while at < len(data):
    size = int.from_bytes(data[at:at + 2], "big")
    frames.append(data[at + 2:at + 2 + size])
    at += 2 + size
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
started, sent = time.monotonic(), 0
while (past := time.monotonic() - started) < seconds:
    for frame in frames[sent:int(past * rate)]:
        try:
            raw.send(frame)
        except OSError:
            pass
        sent += 1
    time.sleep(0.001)
print(sent)
"""

_ASK = """
import json, socket, sys, time
host, path = sys.argv[2], sys.argv[4]
seconds, port, interval = float(sys.argv[1]), int(sys.argv[3]), float(sys.argv[5])
request = f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode()
end, times, failed = time.monotonic() + seconds, [], 0
while time.monotonic() < end:
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=3) as connection:
            if path:
                connection.sendall(request)
                while connection.recv(65536):
                    pass
        times.append((time.monotonic() - began) * 1000)
    except OSError:
        failed += 1
    time.sleep(interval)
print(json.dumps({"times": times, "failed": failed}))
"""


def _spawn(guest: Guest, program: str, *arguments: object) -> subprocess.Popen[str]:
    command = ("ip", "netns", "exec", guest.name, sys.executable, "-c", program)
    return subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def _upcalls(hypervisor: Hypervisor) -> int:
    text = hypervisor.ovs.appctl("dpif-netdev/pmd-stats-show")
    return sum(map(int, re.findall(r"miss with success upcall: (\d+)", text)))


def _percentiles(times: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile, by nearest rank."""
    ordered = sorted(times) or [0.0]
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def _processor_time(hypervisor: Hypervisor) -> dict[str, float]:
    children = hypervisor.children()
    pids = {
        "ovs-vswitchd": hypervisor.ovs.vswitchd_pid,
        "worker": children["ovs_metadata.proxy.main"],
        "controller": children["ovs_metadata.flows.launcher"],
    }
    return {name: Usage.of(pid).cpu for name, pid in pids.items()}


def measure(hypervisor: Hypervisor, flood: Flood, rate: int, seconds: float, work: Path) -> Cost:
    """One flood by the first guest, beside the second, which has the third for a neighbour."""
    sender, bystander, neighbour = hypervisor.guests[:3]
    path = work / "frames"
    with path.open("wb") as file:
        for frame in frames(flood, sender, neighbour, int(rate * seconds) if flood.protocol else 0):
            file.write(len(frame).to_bytes(2, "big") + frame)
    hypervisor.ovs.appctl("revalidator/purge")
    upcalls, before = _upcalls(hypervisor), _processor_time(hypervisor)
    asking = (
        _spawn(bystander, _ASK, seconds, SERVICE_IPV4, SERVICE_PORT, "/openstack", INTERVAL),
        _spawn(bystander, _ASK, seconds, SERVICE_IPV4, SERVICE_PORT, "", INTERVAL),
        _spawn(bystander, _ASK, seconds, neighbour.ip, NEIGHBOUR_PORT, "", INTERVAL),
    )
    flooding = _spawn(sender, _SEND, rate, seconds, path)
    sent = int(flooding.communicate()[0])
    metadata, service, beside = (json.loads(each.communicate()[0]) for each in asking)
    after = _processor_time(hypervisor)
    return Cost(
        sent,
        _upcalls(hypervisor) - upcalls,
        {name: round(after[name] - before[name], 2) for name in after},
        _percentiles(metadata["times"]),
        _percentiles(service["times"]),
        _percentiles(beside["times"]),
        sum(each["failed"] for each in (metadata, service, beside)),
    )


def run(rate: int, seconds: float, kinds: tuple[Flood, ...] = FLOODS) -> Iterator[tuple[str, Cost]]:
    """Start a hypervisor with three guests; measure each kind of flood in turn."""
    hypervisor = Hypervisor(f"fl{os.getpid()}")
    try:
        hypervisor.start()
        hypervisor.start_metadata_service()
        guests = [
            hypervisor.add_guest(
                name, mac=f"fa:16:3e:00:00:0{number}", address=f"10.0.0.{number}/24"
            )
            for number, name in enumerate(("bad", "by", "peer"), 1)
        ]
        hypervisor.start_agent()
        for guest in guests:
            hypervisor.wait_until_served(guest)
        wait_for(lambda: guests[1].identity() == guests[1].instance_id, "an answer")
        with (
            tempfile.TemporaryDirectory() as work,
            http_server(guests[2].name, guests[2].ip, NEIGHBOUR_PORT, ""),
        ):
            for flood in kinds:
                yield flood.name, measure(hypervisor, flood, rate, seconds, Path(work))
                _settle(hypervisor)
    finally:
        hypervisor.close()


def _settle(hypervisor: Hypervisor) -> None:
    """Wait until the switch and the worker have done with what they were sent."""
    before = -1.0
    while (now := sum(_processor_time(hypervisor).values())) - before > 0.02:
        before = now
        time.sleep(0.5)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rate", type=int, default=RATE, help=f"frames a second; {RATE}")
    arguments.add_argument("--seconds", type=float, default=SECONDS, help=f"each; {SECONDS:g}")
    arguments.add_argument("--format", choices=["table", "json"], default="table")
    options = arguments.parse_args()
    costs = run(options.rate, options.seconds)
    if options.format == "json":
        print(json.dumps({name: asdict(cost) for name, cost in costs}))
        return
    print(f"{'flood of':29}{'sent':>7}{'upcalls':>9}{'vswitchd':>9}{'worker':>7} s CPU", end="")
    print("   metadata p50/p99    service p50/p99  neighbour p50/p99 ms  failed")
    for name, cost in costs:
        cpu = f"{cost.cpu['ovs-vswitchd']:9.2f}{cost.cpu['worker']:7.2f}"
        each = (cost.metadata, cost.service, cost.neighbour)
        times = "   ".join(f"{p50:8.2f}/{p99:7.2f}" for p50, p99 in each)
        print(
            f"{name:29}{cost.sent:7}{cost.upcalls:9}{cpu}      {times}  {cost.failed:6}", flush=True
        )


if __name__ == "__main__":
    main()
