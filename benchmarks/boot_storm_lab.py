"""What a boot storm needs: guests behind one bridge, and the two services that can answer them.

Guests have plain IPv4 addresses, all different: Neutron's agent tells them apart by that. They
live as long as their hypervisor. No threads here.
"""

import ipaddress
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.boot_storm_upstream import READY

from lab.load.ovsdb_client import NewPort, OvsdbClient
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import LabError, Process, run, wait_for
from lab.rig.usage import Usage
from lab.upstream.neutron_metadata_agent import NETWORK_ID, NeutronMetadataAgent, NeutronPort
from ovs_metadata.host.address import SERVICE_IPV4, SERVICE_PORT

NETWORK = ipaddress.IPv4Network("10.64.0.0/16")

# The shell's arguments: the address with its prefix, and one more of ip's commands.
# IPv6 is off, so that nothing but the storm is on the network.
_SET_UP = """
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
ip -batch - <<END
link set lo up
addr add $1 dev eth0
link set eth0 up
$2
END
"""


@dataclass(frozen=True)
class Speed:
    """Nova's speed: how many requests it works on at once, and seconds for each of them."""

    name: str
    slots: int
    seconds: float

    def own_time(self, guests: int, requests: int) -> float:
        """Seconds it needs for that many guests with so many requests each, one after another."""
        return self.seconds * max(requests, guests * requests / self.slots)


SPEEDS = (Speed("uncached", 4, 0.030), Speed("cached", 1, 1 / 800))
"""Of a Nova that asks its database and Neutron each time; of one process of it that need not."""


def add_guests(hypervisor: Hypervisor, count: int) -> list[Guest]:
    """Make guests, plug them in, and write their records.

    Much the same as `Hypervisor.add_guest`, but with few commands for all of them.
    """
    guests = [
        Guest(
            f"{hypervisor.prefix}-{number}",
            mac=f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}",
            address=f"{NETWORK[number + 2]}/{NETWORK.prefixlen}",
            network_id=NETWORK_ID,
        )
        for number in range(count)
    ]
    hypervisor.guests += guests
    _create(hypervisor, guests, f"route add {SERVICE_IPV4}/32 dev eth0")
    for guest in guests:
        hypervisor.put(guest)
    _plug(hypervisor, guests)
    return guests


def _create(hypervisor: Hypervisor, guests: Sequence[Guest], further: str) -> None:
    """Make their namespaces and devices; `further` is one more of ip's commands in each."""
    batch = hypervisor.root / "ip-batch"
    batch.write_text("".join(f"netns add {guest.name}\n" for guest in guests))
    run("ip", "-batch", batch, timeout=120)
    batch.write_text(
        "".join(
            f"link add {guest.tap} type veth"
            f" peer name eth0 address {guest.mac} netns {guest.name}\n"
            f"link set {guest.tap} up\n"
            for guest in guests
        )
    )
    run("ip", "-n", hypervisor.namespace, "-batch", batch, timeout=120)
    for guest in guests:
        inside = ("nsenter", f"--net=/run/netns/{guest.name}")
        run(*inside, "sh", "-ec", _SET_UP, "sh", guest.address, further)
        # Userspace forwarding breaks the checksums a veth leaves to hardware that is not there.
        run(*inside, "ethtool", "-K", "eth0", "tx", "off")


def _plug(hypervisor: Hypervisor, guests: Sequence[Guest]) -> None:
    client = OvsdbClient(hypervisor.ovs.connection, hypervisor.bridge)
    try:
        client.add(
            NewPort(
                guest.tap,
                {
                    "iface-id": guest.port_id,
                    "vm-uuid": guest.instance_id,
                    "attached-mac": guest.mac,
                },
            )
            for guest in guests
        )
        for guest in guests:
            client.wait_for_number(guest.tap, 60)
    finally:
        client.close()


@contextmanager
def upstream(hypervisor: Hypervisor, speed: Speed) -> Iterator[Process]:
    """Something as fast as Nova, both where the hypervisor expects Nova and in our namespace."""
    # The process appends to its log: an earlier one's text must not be read as this one's.
    log = hypervisor.root / "upstream.log"
    log.unlink(missing_ok=True)
    process = Process(
        [
            *(sys.executable, Path(__file__).with_name("boot_storm_upstream.py")),
            *(
                str(urlsplit(hypervisor.nova).port),
                str(speed.slots),
                str(speed.seconds),
                hypervisor.namespace,
            ),
        ],
        log,
    )
    try:
        wait_for(lambda: _says(process, READY), "the upstream")
        yield process
    finally:
        process.stop()


def _says(process: Process, text: str) -> bool:
    if not process.alive():
        raise LabError(f"ended early: {process.log_tail()}")
    return text in process.log.read_text()


@dataclass(frozen=True)
class Service:
    """A running metadata service: the pids of its processes, by what they are."""

    processes: dict[str, int]

    def usage(self) -> dict[str, Usage]:
        """What each of them has used so far."""
        return {name: Usage.of(pid) for name, pid in self.processes.items()}


@contextmanager
def ours(hypervisor: Hypervisor, workers: int) -> Iterator[Service]:
    """The agent with its children, once all guests have their flows."""
    hypervisor.configure(proxy={"workers": workers})
    agent = hypervisor.start_agent()
    try:
        expected = _numbers(hypervisor)
        wait_for(lambda: expected <= _served(hypervisor), "flows of all guests", 120)
        names = {
            "ovs_metadata.flows.launcher": "flow controller",
            "ovs_metadata.proxy.main": "proxy worker",
        }
        yield _service(hypervisor, {"agent": agent}, names)
    finally:
        agent.stop()


def _numbers(hypervisor: Hypervisor) -> set[int]:
    """The ofports of all guests."""
    columns = ("--format=json", "--columns=name,ofport", "list", "interface")
    numbers = dict(json.loads(hypervisor.ovs.vsctl(*columns))["data"])
    return {numbers[guest.tap] for guest in hypervisor.guests}


def _served(hypervisor: Hypervisor) -> set[int]:
    """The ofports that have flows: the lowest 16 bits of our cookies."""
    cookies = re.findall(r"cookie=(0x[0-9a-f]+)", hypervisor.flows())
    return {int(cookie, 16) & 0xFFFF for cookie in cookies}


@contextmanager
def neutron(hypervisor: Hypervisor, guests: Sequence[Guest], threads: int) -> Iterator[Service]:
    """Neutron's metadata agent, relaying with so many threads, and its haproxy on the bridge.

    haproxy is in a network namespace of its own there, as in that of a DHCP server.
    """
    namespace = Guest(
        f"{hypervisor.prefix}-neutron",
        mac="fa:16:3f:00:00:01",
        address=f"{NETWORK[-2]}/{NETWORK.prefixlen}",
    )
    hypervisor.guests.append(namespace)
    _create(hypervisor, [namespace], f"addr add {SERVICE_IPV4}/32 dev eth0")
    _plug(hypervisor, [namespace])
    try:
        with NeutronMetadataAgent(
            {guest.ip: NeutronPort(guest.instance_id, guest.project_id) for guest in guests},
            nova_url=hypervisor.nova,
            secret=hypervisor.secret,
            listen=(SERVICE_IPV4, SERVICE_PORT),
            namespace=namespace.name,
            threads=threads,
        ) as running:
            roots = {"metadata agent": running.agent, "haproxy": running.haproxy}
            yield _service(hypervisor, roots, {})
    finally:
        namespace.unplug(hypervisor.ovs)
        namespace.remove()
        hypervisor.guests.remove(namespace)


def _service(hypervisor: Hypervisor, roots: dict[str, Process], names: dict[str, str]) -> Service:
    """A service of these processes and their children, named by the module they run."""
    found: dict[str, int] = {}
    for name, root in roots.items():
        found[name] = root.pid
        for number, child in enumerate(_descendants(root.pid), 1):
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            what = next((names[word] for word in words if word in names), f"{name}, child")
            found[f"{what} {number}"] = child
    found["ovs-vswitchd"] = hypervisor.ovs.vswitchd_pid
    return Service(found)


def machine_cpu() -> float:
    """Seconds of CPU time that all processes used since the machine was started."""
    # The first line of /proc/stat (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal.
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _descendants(pid: int) -> list[int]:
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return children + [further for child in children for further in _descendants(child)]
