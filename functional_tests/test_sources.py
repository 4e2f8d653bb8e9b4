"""Whatever address a guest asks from, the answer comes to that address, and nothing is kept of it.

Nova gets the port's primary fixed IP in any case.
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
from lab.rig.process import run, wait_for
from lab.stand_ins import echo_service
from ovs_metadata.host.address import METADATA_PORT, IpVersion, port_address

EUI_64 = str(EUI("fa:16:3e:00:00:01").ipv6_link_local())
"""The link-local address made of every guest's MAC: the primary one over IPv6."""


@contextlib.contextmanager
def _echoing() -> Iterator[Hypervisor]:
    """A hypervisor whose metadata service answers with what arrived."""
    hypervisor = make_hypervisor()
    try:
        hypervisor.start()
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
    with _echoing() as hypervisor:
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


def _assert_identity(headers: Mapping[str, list[str]], guest: Guest, fixed_ip: str) -> None:
    assert headers["x-instance-id"] == [guest.instance_id]
    assert headers["x-tenant-id"] == [guest.project_id]
    assert headers["x-forwarded-for"] == [fixed_ip]


def _assert_served(
    guest: Guest, source: str, fixed_ip: str | None = None, device: str = "eth0"
) -> str:
    """The guest gets its identity; returns the address it asked from."""
    with contextlib.closing(Connection(guest, source, device)) as connection:
        _assert_identity(connection.ask(), guest, fixed_ip or guest.ip)
        return connection.source


@pytest.fixture(scope="module")
def dual_stack(echoing: Hypervisor) -> Guest:
    guest = _add_guest(echoing, "dual", "10.0.0.5", "2001:db8::5")
    _add_address(guest, "2001:db8::5/64")
    return guest


def test_a_dual_stack_guest_is_served_over_both(dual_stack: Guest) -> None:
    assert _assert_served(dual_stack, ANY_IPV4) == "10.0.0.5"
    assert _assert_served(dual_stack, ANY_IPV6) == EUI_64
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


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("fe80::5c3a:91ff:2be7:4d10/64", ("valid_lft", "600", "preferred_lft", "300")),
        ("2001:db8::5c3a:91ff:2be7:4d10/64", ("valid_lft", "600", "preferred_lft", "300")),
        ("2001:db8:1::99/128", ()),
        ("fd00::99/128", ()),
        ("10.0.0.6/24", ()),
        ("192.0.2.77/32", ()),
        ("192.0.2.1/32", ()),
        ("169.254.77.77/16", ()),
        ("240.0.0.7/32", ()),
        ("fe80::1/64", ()),
    ],
    ids=[
        *("temporary link-local", "temporary global", "global", "unique local", "IPv4", "foreign"),
        *(
            "our kernel's gateway",
            "of a guest without DHCP",
            "class E",
            "our kernel's IPv6 gateway",
        ),
    ],
)
def test_an_unregistered_address_is_served(
    echoing: Hypervisor, address: str, options: tuple[str, ...]
) -> None:
    guest = _add_guest(echoing, f"any{len(echoing.guests)}")
    _add_address(guest, address, *options)
    _assert_served(guest, address.partition("/")[0])


@pytest.fixture
def _strict_source_validation(echoing: Hypervisor) -> Iterator[None]:
    """Have the proxy's kernel check sources as hardened hosts do; namespaces inherit that."""
    settings = [
        f"/proc/sys/net/ipv4/conf/{of}/rp_filter" for of in ("all", "default", METADATA_PORT)
    ]
    enter = ("ip", "netns", "exec", echoing.metadata_namespace, "sh", "-c")
    run(*enter, "; ".join(f"echo 1 > {each}" for each in settings))
    yield
    run(*enter, "; ".join(f"echo 0 > {each}" for each in settings))


@pytest.mark.usefixtures("_strict_source_validation")
def test_every_source_is_served_where_the_kernel_validates_sources_strictly(
    echoing: Hypervisor,
) -> None:
    """The way back to every source is through the device that its packets arrive on."""
    guest = _add_guest(echoing, "strict")
    own = port_address(echoing.ovs.ofport(guest.tap))
    for source in ("10.0.0.6", "192.0.2.1", "169.254.77.77", own, "240.0.0.7"):
        _add_address(guest, f"{source}/32")
        _assert_served(guest, source)
    _assert_served(guest, guest.ip)
    doctor = Path(sys.executable).parent / "ovs-metadata"
    inside = ("nsenter", f"--net=/run/netns/{echoing.namespace}")
    found = run(
        *(*inside, doctor, "--config", echoing.config, "doctor", guest.port_id), check=False
    )
    assert "request-unanswered" not in found


def test_each_of_several_fixed_ips_is_served(echoing: Hypervisor) -> None:
    fixed_ips = ["10.0.0.5", "10.0.0.6", "10.0.1.7", "2001:db8::5", "2001:db8::6"]
    guest = _add_guest(echoing, "several", *fixed_ips)
    for fixed_ip in fixed_ips[1:]:
        _add_address(guest, f"{fixed_ip}/{64 if ':' in fixed_ip else 24}")
    for fixed_ip in fixed_ips:
        _assert_served(guest, fixed_ip, "10.0.0.5")


@pytest.mark.parametrize("version", [4, 6])
def test_a_guest_with_a_port_address_gets_its_own_identity(
    echoing: Hypervisor, version: IpVersion
) -> None:
    """Another's, and its port's: the proxy's kernel has both, and still sends the answer out."""
    other = _add_guest(echoing, f"taken{version}")
    guest = _add_guest(echoing, f"taker{version}")
    for whose in (other, guest):
        source = port_address(echoing.ovs.ofport(whose.tap), version)
        _add_address(guest, f"{source}/{32 if version == 4 else 128}")
        _assert_served(guest, source)
    _assert_served(other, other.ip)


def test_another_mac_behind_the_port_gets_no_answer(echoing: Hypervisor) -> None:
    """As a container has it that is bridged into the network: answers are for the record's MAC."""
    guest = _add_guest(echoing, "pair")
    guest.run(
        *("ip", "link", "add", "link", "eth0", "name", "vrrp", "address", "00:00:5e:00:01:0a"),
        *("type", "macvlan", "mode", "private"),
    )
    _add_address(guest, "10.0.0.200/32", device="vrrp")
    guest.run("ip", "link", "set", "vrrp", "up")
    with begin(guest, "10.0.0.200", "vrrp") as asked:
        assert accepted([asked], timeout=2) == []
    # A virtual address is served from the port's own MAC, as an allowed address pair has it.
    guest.run("ip", "link", "del", "vrrp")
    _add_address(guest, "10.0.0.200/32")
    _assert_served(guest, "10.0.0.200")


def test_sources_at_the_same_time_each_get_their_answers(echoing: Hypervisor) -> None:
    """All of them, and those of another guest, from one TCP port."""
    guests = [_add_guest(echoing, name) for name in ("both", "too")]
    sources = [guests[0].ip, "10.0.0.66", "192.0.2.66", EUI_64, "fe80::66", "2001:db8::66"]
    for guest in guests:
        for source in set(sources) - {guest.ip, EUI_64}:
            _add_address(guest, f"{source}/{64 if ':' in source else 32}")
    with contextlib.ExitStack() as stack:
        connections = [
            (guest, stack.enter_context(contextlib.closing(Connection(guest, source, port=4321))))
            for guest in guests
            for source in sources
        ]
        for _again in range(3):
            for number, (_guest, connection) in enumerate(connections):
                connection.send(f"/{number}")
            for guest, connection in reversed(connections):
                _assert_identity(connection.receive(), guest, guest.ip)


def test_nothing_is_kept_of_what_a_guest_sends(echoing: Hypervisor) -> None:
    """The switch has one datapath flow for a request and one for an answer, of each IP version."""
    guest = _add_guest(echoing, "flood")
    ofport = echoing.ovs.ofport(guest.tap)
    before = echoing.flows_of(ofport)
    sources = [f"{network}{number:x}" for network in ("2001:db8::", "fe80::") for number in (1, 8)]
    sources += [f"192.0.2.{number}" for number in range(10, 30)]
    for source in sources:
        _add_address(guest, f"{source}/{128 if ':' in source else 32}")
        _assert_served(guest, source)
    assert echoing.flows_of(ofport) == before
    cached = echoing.ovs.appctl("dpctl/dump-flows").splitlines()
    for version in (4, 6):
        # Of the TCP flags that have been seen, and so of what leads to the proxy, there is one.
        to_proxy = f"dst={port_address(ofport, version)})"
        assert len([flow for flow in cached if to_proxy in flow.partition("actions:")[2]]) == 1


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
