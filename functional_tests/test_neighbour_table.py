"""The kernel's neighbour tables, which all network namespaces share and any host can fill."""

import contextlib
import itertools
import subprocess
import threading
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

import pytest

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import namespace, run
from ovs_metadata.host.address import (
    METADATA_PORT,
    METADATA_PORT_MAC,
    SERVICE_IPV4,
    SERVICE_IPV6,
    IpVersion,
)

FIRST: dict[IpVersion, int] = {
    4: int(ip_address("198.18.0.0")),
    6: int(ip_address("2001:db8::1:0")),
}
"""Neighbours that no host has: of RFC 2544 and RFC 3849."""

FULL = "No buffer space available"

MAC = "02:00:00:00:00:01"
LOOPBACK_MAC = "00:00:00:00:00:00"


@contextlib.contextmanager
def full_table(name: str, version: IpVersion) -> Iterator[None]:
    """The kernel takes no more neighbours of this IP version, from the beginning to the end.

    Those added here are "reachable": the kernel drops none of them for 15 s, even if it
    needs the place. Those of others it does drop after 5 s, so their places are taken as well.
    """
    full, over = threading.Event(), threading.Event()
    with namespace(name):
        run("ip", "-n", name, "link", "add", "near", "type", "veth", "peer", "far")
        for device in ("near", "far"):
            run("ip", "-n", name, "link", "set", device, "up")

        def keep_full() -> None:
            addresses = itertools.count(FIRST[version])
            while not over.is_set():
                if FULL in add_neighbours(name, itertools.islice(addresses, 100)):
                    full.set()

        thread = threading.Thread(target=keep_full, name="neighbours")
        thread.start()
        try:
            assert full.wait(30), "the neighbour table has room for all"
            yield
        finally:
            over.set()
            thread.join()


def add_neighbours(where: str, addresses: Iterable[int]) -> str:
    """Have the kernel take those neighbours that it takes; what it says about the others."""
    commands = "".join(
        f"neigh add {ip_address(address)} dev near lladdr {MAC} nud reachable\n"
        for address in addresses
    )
    return subprocess.run(
        ("ip", "-n", where, "-force", "-batch", "-"),
        input=commands,
        capture_output=True,
        text=True,
        check=False,
    ).stderr


def keep(where: str, neighbour: str, device: str, mac: str) -> None:
    """Make a neighbour permanent: it has its place whether the table is full or not."""
    run("ip", "-n", where, "neigh", "replace", neighbour, "lladdr", mac, "dev", device)


@pytest.mark.parametrize("version", [4, 6])
def test_a_full_neighbour_table_costs_no_guest_its_answer(
    serving: tuple[Hypervisor, Guest], version: IpVersion
) -> None:
    hypervisor, guest = serving
    # What is not ours: the guest's own kernel, here the same one, and the way to Nova.
    keep(guest.name, {4: SERVICE_IPV4, 6: SERVICE_IPV6}[version], "eth0", METADATA_PORT_MAC)
    keep(hypervisor.namespace, "0.0.0.0", "lo", LOOPBACK_MAC)
    # What the proxy's kernel has learned ages; here at once.
    run("ip", "-n", hypervisor.metadata_namespace, "neigh", "flush", "dev", METADATA_PORT)
    with full_table(f"{hypervisor.prefix}-elsewhere", version):
        assert guest.identity(ipv6=version == 6) == guest.instance_id
