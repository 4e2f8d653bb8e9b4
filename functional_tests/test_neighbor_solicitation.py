"""Who asks for the MAC of fe80::a9fe:a9fe is answered by flows alone, as RFC 4861 asks for."""

import re
from collections.abc import Iterator

import pytest
from netaddr import EUI

from lab.rig.guest import Guest
from lab.rig.guest_client import ANY_IPV6, begin
from lab.rig.hypervisor import Hypervisor
from lab.rig.neighbor_discovery import (
    SERVICE_MULTICAST,
    SERVICE_MULTICAST_MAC,
    Advertisement,
    Wire,
    solicitation,
)
from lab.rig.process import run, wait_for
from ovs_metadata.host.address import METADATA_PORT_MAC, SERVICE_IPV6

MAC = "fa:16:3e:00:00:05"
LINK_LOCAL = str(EUI(MAC).ipv6_link_local())
SOURCES = [LINK_LOCAL, "fe80::1234:5678:9abc:def0", "2001:db8::5"]
DAD_PROBE = solicitation(
    MAC, SERVICE_MULTICAST_MAC, "::", SERVICE_MULTICAST, SERVICE_IPV6, option=False
)
"""What a guest sends that wants the address for itself (RFC 4862, section 5.4.2)."""


@pytest.fixture(scope="module")
def guest(hypervisor: Hypervisor) -> Guest:
    guest = hypervisor.add_guest("asking", mac=MAC, address="10.0.0.5/24")
    hypervisor.wait_until_served(guest)
    return guest


@pytest.fixture
def wire(guest: Guest) -> Iterator[Wire]:
    with Wire(guest) as wire:
        yield wire


def _multicast(source: str = LINK_LOCAL) -> bytes:
    return solicitation(MAC, SERVICE_MULTICAST_MAC, source, SERVICE_MULTICAST, SERVICE_IPV6)


def _unicast(source: str = LINK_LOCAL, *, option: bool = True) -> bytes:
    return solicitation(MAC, METADATA_PORT_MAC, source, SERVICE_IPV6, SERVICE_IPV6, option=option)


def _expected(to: str, target_mac: str | None = METADATA_PORT_MAC) -> Advertisement:
    return Advertisement(
        eth_source=METADATA_PORT_MAC,
        eth_destination=MAC,
        source=SERVICE_IPV6,
        destination=to,
        hop_limit=255,
        target=SERVICE_IPV6,
        router=False,
        solicited=True,
        override=True,
        target_mac=target_mac,
        checksum_is_right=True,
    )


@pytest.mark.parametrize("source", SOURCES)
def test_a_multicast_solicitation_is_answered(wire: Wire, source: str) -> None:
    wire.send(_multicast(source))
    assert wire.advertisement() == _expected(source)


@pytest.mark.parametrize("source", SOURCES)
def test_a_unicast_solicitation_is_answered(wire: Wire, source: str) -> None:
    wire.send(_unicast(source))
    assert wire.advertisement() == _expected(source)


def test_a_unicast_solicitation_without_option_is_answered(wire: Wire) -> None:
    """The answer may lack its option, for who asked by unicast has the MAC already."""
    wire.send(_unicast(option=False))
    assert wire.advertisement() == _expected(LINK_LOCAL, target_mac=None)


def test_a_probe_for_a_duplicate_of_the_service_address_is_not_answered(
    hypervisor: Hypervisor, wire: Wire
) -> None:
    """No host could get an answer that is for a multicast, and no guest may have the address."""

    def probes_dropped() -> int:
        flows = hypervisor.flows("table=202,icmp6,ipv6_src=::")
        return sum(int(count) for count in re.findall(r"n_packets=(\d+)", flows))

    before = probes_dropped()
    wire.send(DAD_PROBE)
    wait_for(lambda: probes_dropped() == before + 1, "the probe to be dropped")
    # It is the next answer that comes, and it is to the next question.
    wire.send(_unicast())
    assert wire.advertisement() == _expected(LINK_LOCAL)


def test_a_solicitation_for_another_address_is_not_answered(wire: Wire) -> None:
    other = "fe80::a9fe:a9ff"
    wire.send(solicitation(MAC, "33:33:ff:fe:a9:ff", LINK_LOCAL, "ff02::1:fffe:a9ff", other))
    wire.send(_unicast())
    assert wire.advertisement() == _expected(LINK_LOCAL)


def test_solicitations_are_answered_while_the_flow_controller_is_stopped(
    hypervisor: Hypervisor, wire: Wire
) -> None:
    with hypervisor.stopped_controller():
        # Unused sources: there is no datapath flow yet that could help.
        for source in ("2001:db8::77", "2001:db8::78"):
            wire.send(_multicast(source))
            assert wire.advertisement() == _expected(source)
            wire.send(_unicast(source))
            assert wire.advertisement() == _expected(source)


def test_a_kernel_believes_the_answers(guest: Guest) -> None:
    """By multicast, when it knows no MAC, and by unicast, when it makes sure of the one it has."""
    neighbour = ("ip", "-n", guest.name, "-6", "neigh")
    entry = (SERVICE_IPV6, "dev", "eth0")

    def reachable() -> bool:
        # So it calls an entry only once an answer had the flag "solicited".
        return run(*neighbour, "show", *entry).split()[-3:] == [
            *("lladdr", METADATA_PORT_MAC, "REACHABLE")
        ]

    run(*neighbour, "flush", "dev", "eth0")
    with begin(guest, ANY_IPV6):
        wait_for(reachable, "the kernel to have the MAC")
    run(*neighbour, "change", *entry, "lladdr", METADATA_PORT_MAC, "nud", "probe")
    wait_for(reachable, "the kernel to have the MAC confirmed")
