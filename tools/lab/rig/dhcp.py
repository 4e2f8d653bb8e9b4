"""Real DHCP in the lab: dnsmasq in a namespace on the bridge, busybox's udhcpc in a guest."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, wait_for

SCRIPT = Path(__file__).with_name("dhcp-client-script")


@dataclass(frozen=True)
class Lease:
    """What a guest is to get: its fixed address, and options in dnsmasq's notation.

    As Neutron's DHCP agent: a host entry for each port, whose tag chooses the options.
    """

    guest: Guest
    options: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """The part of dnsmasq's command line."""
        tag = self.guest.name
        return [
            f"--dhcp-host={self.guest.mac},set:{tag},{self.guest.ip}",
            *(f"--dhcp-option=tag:{tag},{option}" for option in self.options),
        ]


def start_dhcp_server(
    hypervisor: Hypervisor, server: Guest, network: str, leases: Iterable[Lease]
) -> Process:
    """Start dnsmasq in the namespace of `server`; `network` is the network's address."""
    process = Process(
        [
            *("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--user=root"),
            *("--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0", "--pid-file="),
            *("--interface=eth0", "--bind-interfaces", "--except-interface=lo", "--no-ping"),
            *("--leasefile-ro", f"--dhcp-range={network},static,1h"),
            *(argument for lease in leases for argument in lease.arguments()),
        ],
        hypervisor.root / "dnsmasq.log",
        namespace=server.name,
    )
    hypervisor.processes["dnsmasq"] = process
    wait_for(lambda: "sockets bound exclusively" in process.log.read_text(), "dnsmasq")
    return process


def forget_address(guest: Guest) -> None:
    """Take the guest's IPv4 address and routes away: it has just booted."""
    guest.run("ip", "-4", "addr", "flush", "dev", "eth0")
    guest.run("ip", "-4", "route", "flush", "dev", "eth0")


def ask_for_address(guest: Guest) -> str:
    """Have the guest ask for its address, once; returns its IPv4 routes."""
    guest.run(
        *("busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "5", "-T", "1"),
        *("-O", "staticroutes", "-s", str(SCRIPT)),
    )
    return guest.run("ip", "-4", "route", "show")
