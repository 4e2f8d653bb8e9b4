"""Whatever address a guest asks from, the answer comes to that address.

Nova is told the port's primary fixed IP in any case, and what the switch learns stays bounded.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor
from netaddr import EUI

from lab.rig.guest import Guest
from lab.rig.guest_client import ANY_IPV4, ANY_IPV6, Connection, accepted, begin
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import wait_for
from lab.stand_ins import echo_service

LIMIT = 8
"""Learned flows a port may have here."""

EUI_64 = str(EUI("fa:16:3e:00:00:01").ipv6_link_local())
"""The link-local address made of every guest's MAC: the primary one over IPv6."""


@contextlib.contextmanager
def _echoing(**flow_options: int) -> Iterator[Hypervisor]:
    """A hypervisor whose metadata service answers with what arrived."""
    hypervisor = make_hypervisor()
    try:
        hypervisor.start()
        hypervisor.configure(flows=flow_options)
        tools = Path(echo_service.__file__).parents[2]
        service = hypervisor.spawn(
            "echo-service",
            *(sys.executable, "-m", "lab.stand_ins.echo_service", "127.0.0.1", "8775"),
            PYTHONPATH=str(tools),
        )
        wait_for(lambda: echo_service.READY in service.log.read_text(), "the echo service")
        hypervisor.start_agent()
        yield hypervisor
    finally:
        close_hypervisor(hypervisor)


@pytest.fixture(scope="module")
def echoing() -> Iterator[Hypervisor]:
    with _echoing(learned_limit=LIMIT) as hypervisor:
        yield hypervisor


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Hypervisor]:
    """One whose learned flows last two seconds."""
    with _echoing(learned_idle_timeout=2) as hypervisor:
        yield hypervisor


def _add_guest(hypervisor: Hypervisor, name: str, *fixed_ips: str, **of: Any) -> Guest:
    """A guest with these fixed IPs in its record; those beyond its `address` it adds itself."""
    guest = hypervisor.add_guest(name, record=False, **of)
    hypervisor.put(guest, fixed_ips=list(fixed_ips) or [guest.ip])
    hypervisor.wait_until_served(guest)
    return guest


def _add_address(guest: Guest, address: str, *options: str, device: str = "eth0") -> None:
    nodad = ("nodad",) if ":" in address else ()
    guest.run("ip", "addr", "add", address, "dev", device, *nodad, *options)


def _learned(hypervisor: Hypervisor, guest: Guest) -> list[str]:
    ofport = hypervisor.ovs.ofport(guest.tap)
    # Other flows have it in an action, learn(table=203,...).
    return [flow for flow in hypervisor.flows_of(ofport) if ", table=203," in flow]


def _assert_identity(headers: Mapping[str, list[str]], guest: Guest, fixed_ip: str) -> None:
    assert headers["x-instance-id"] == [guest.instance_id]
    assert headers["x-tenant-id"] == [guest.project_id]
    assert headers["x-forwarded-for"] == [fixed_ip]


def _assert_served(
    guest: Guest, source: str, fixed_ip: str | None = None, device: str = "eth0"
) -> str:
    """The guest is told who it is; returns the address it asked from."""
    with contextlib.closing(Connection(guest, source, device)) as connection:
        _assert_identity(connection.ask(), guest, fixed_ip or guest.ip)
        return connection.source


@pytest.fixture(scope="module")
def dual_stack(echoing: Hypervisor) -> Guest:
    guest = _add_guest(echoing, "dual", "10.0.0.5", "2001:db8::5")
    _add_address(guest, "2001:db8::5/64")
    return guest


def test_a_dual_stack_guest_is_served_over_both(echoing: Hypervisor, dual_stack: Guest) -> None:
    assert _assert_served(dual_stack, ANY_IPV4) == "10.0.0.5"
    assert _assert_served(dual_stack, ANY_IPV6) == EUI_64
    assert _learned(echoing, dual_stack) == []
    assert _assert_served(dual_stack, "2001:db8::5", "10.0.0.5") == "2001:db8::5"


@pytest.mark.parametrize("source", [ANY_IPV6, EUI_64, "2001:db8::6"])
def test_an_ipv6_only_guest_is_served(echoing: Hypervisor, source: str) -> None:
    guest = _add_guest(echoing, f"six{len(echoing.guests)}", "2001:db8::6", address="")
    _add_address(guest, "2001:db8::6/64")
    _assert_served(guest, source, "2001:db8::6")


def test_a_link_local_address_that_does_not_tell_the_mac_is_served(echoing: Hypervisor) -> None:
    """The kernel's own, of RFC 7217; the guest has no other link-local address."""
    guest = _add_guest(echoing, "opaque", "2001:db8::7", address="")
    guest.run("ip", "link", "set", "eth0", "down")
    guest.run("ip", "link", "set", "eth0", "addrgenmode", "random")
    guest.run("ip", "link", "set", "eth0", "up")
    wait_for(lambda: "fe80::" in guest.run("ip", "-6", "addr", "show", "dev", "eth0"), "an address")
    source = _assert_served(guest, ANY_IPV6, "2001:db8::7")
    assert source.startswith("fe80::")
    assert source != EUI_64
    assert len(_learned(echoing, guest)) == 1


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("fe80::5c3a:91ff:2be7:4d10/64", ("valid_lft", "600", "preferred_lft", "300")),
        ("2001:db8::5c3a:91ff:2be7:4d10/64", ("valid_lft", "600", "preferred_lft", "300")),
        ("2001:db8:1::99/128", ()),
        ("fd00::99/128", ()),
        ("10.0.0.6/24", ()),
        ("192.0.2.77/32", ()),
    ],
    ids=["temporary link-local", "temporary global", "global", "unique local", "IPv4", "foreign"],
)
def test_an_unregistered_address_is_served(
    echoing: Hypervisor, address: str, options: tuple[str, ...]
) -> None:
    guest = _add_guest(echoing, f"any{len(echoing.guests)}")
    _add_address(guest, address, *options)
    _assert_served(guest, address.partition("/")[0])


def test_each_of_several_fixed_ips_is_served(echoing: Hypervisor) -> None:
    fixed_ips = ["10.0.0.5", "10.0.0.6", "10.0.1.7", "2001:db8::5", "2001:db8::6"]
    guest = _add_guest(echoing, "several", *fixed_ips)
    for fixed_ip in fixed_ips[1:]:
        _add_address(guest, f"{fixed_ip}/{64 if ':' in fixed_ip else 24}")
    for fixed_ip in fixed_ips:
        _assert_served(guest, fixed_ip, "10.0.0.5")


def test_an_allowed_address_pair_with_a_mac_of_its_own_is_served(echoing: Hypervisor) -> None:
    """As VRRP has it: the address belongs to another MAC behind the same port."""
    guest = _add_guest(echoing, "pair")
    mac = "00:00:5e:00:01:0a"
    guest.run(
        *("ip", "link", "add", "link", "eth0", "name", "vrrp", "address", mac),
        *("type", "macvlan", "mode", "private"),
    )
    _add_address(guest, "10.0.0.200/32", device="vrrp")
    guest.run("ip", "link", "set", "vrrp", "up")
    _assert_served(guest, "10.0.0.200", device="vrrp")
    (flow,) = _learned(echoing, guest)
    assert f"load:{int(EUI(mac)):#x}->NXM_OF_ETH_DST[]" in flow


def test_two_sources_at_the_same_time_each_get_their_answers(echoing: Hypervisor) -> None:
    guest = _add_guest(echoing, "both")
    sources = [guest.ip, "10.0.0.66", "192.0.2.66", EUI_64, "fe80::66", "2001:db8::66"]
    for source in set(sources) - {guest.ip, EUI_64}:
        _add_address(guest, f"{source}/{64 if ':' in source else 32}")
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(contextlib.closing(Connection(guest, source))) for source in sources
        ]
        for _again in range(3):
            for number, connection in enumerate(connections):
                connection.send(f"/{number}")
            for connection in reversed(connections):
                _assert_identity(connection.receive(), guest, guest.ip)
        assert len(_learned(echoing, guest)) == 4


def test_learned_flows_are_bounded_and_other_ports_do_not_notice(echoing: Hypervisor) -> None:
    guest = _add_guest(echoing, "flood")
    other = _add_guest(echoing, "bystander")
    for each in (guest, other):
        _add_address(each, "192.0.2.1/32")
        _add_address(each, "2001:db8::1/128")
    with contextlib.ExitStack() as stack:
        flood = [
            stack.enter_context(begin(guest, source))
            for _again in range(LIMIT)
            for source in ("192.0.2.1", "2001:db8::1")
        ]
        # Both families count together. Nothing comes back to the others, so they stay as they are.
        assert len(accepted(flood, timeout=2)) == LIMIT
        assert len(_learned(echoing, guest)) == LIMIT
        _assert_served(guest, guest.ip)
        _assert_served(guest, EUI_64)
        _assert_served(other, "192.0.2.1")
        _assert_served(other, "2001:db8::1")
        assert len(_learned(echoing, guest)) == LIMIT
        assert len(_learned(echoing, other)) == 2


def test_learned_flows_go_away_with_the_port(echoing: Hypervisor) -> None:
    guest = _add_guest(echoing, "leaving")
    other = _add_guest(echoing, "staying")
    for each in (guest, other):
        _add_address(each, "192.0.2.1/32")
        _assert_served(each, "192.0.2.1")
        assert len(_learned(echoing, each)) == 1
    ofport = echoing.ovs.ofport(guest.tap)
    guest.unplug(echoing.ovs)
    wait_for(lambda: not echoing.flows_of(ofport), "the flows of the port to go")
    assert len(_learned(echoing, other)) == 1


@pytest.mark.parametrize("source", ["192.0.2.1", "fe80::1:2:3:4", "2001:db8::1"])
def test_learned_flows_age_out_and_are_learned_again(forgetful: Hypervisor, source: str) -> None:
    guest = _add_guest(forgetful, f"idle{len(forgetful.guests)}")
    _add_address(guest, f"{source}/{64 if ':' in source else 32}")
    with contextlib.closing(Connection(guest, source)) as connection:
        connection.ask()
        assert len(_learned(forgetful, guest)) == 1
        wait_for(lambda: not _learned(forgetful, guest), "the learned flow to age out")
        _assert_identity(connection.ask(), guest, guest.ip)
        assert len(_learned(forgetful, guest)) == 1


@pytest.fixture
def _short_datapath_memory(echoing: Hypervisor) -> Iterator[None]:
    """Have the datapath forget a silent connection after half a second, the least there may be."""
    echoing.ovs.vsctl("set", "open_vswitch", ".", "other_config:max-idle=500")
    yield
    echoing.ovs.vsctl("remove", "open_vswitch", ".", "other_config", "max-idle")


@pytest.mark.usefixtures("_short_datapath_memory")
def test_a_half_closed_connection_outlives_a_slow_answer(echoing: Hypervisor) -> None:
    guest = _add_guest(echoing, "slow")
    sources = [guest.ip, "192.0.2.1", EUI_64, "fe80::1:2:3:4", "2001:db8::1"]
    for source in set(sources) - {guest.ip, EUI_64}:
        _add_address(guest, f"{source}/{128 if ':' in source else 32}")
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(contextlib.closing(Connection(guest, source))) for source in sources
        ]
        for connection in connections:
            connection.send("/?delay=3")
            connection.finish_sending()
        for connection in connections:
            _assert_identity(connection.receive(), guest, guest.ip)
