"""A neighbour on a bridge that switches by NORMAL cannot reach the proxy past our flows.

A neighbour that could would be any port it likes, since a port address is nothing but a number. The
bridge's VLANs keep it out (see `ISOLATED_VLAN` in agent/network/metadata_port.py), with our flows
and without.
"""

import contextlib
from collections.abc import Iterator

import pytest
from hypervisor_fixtures import Factory

from lab.rig.frames import (
    ETH_IPV4,
    ETH_IPV6,
    ETH_SERVICE_VLAN,
    ETH_VLAN,
    Frame,
    Tag,
    Witness,
    open_raw,
)
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from ovs_metadata.host.address import (
    METADATA_PORT,
    METADATA_PORT_MAC,
    PORT_NETWORK_IPV6,
    PROXY_PORT,
    SERVICE_IPV4,
    SERVICE_IPV6,
    SERVICE_PORT,
    port_address,
)

BROADCAST = "ff:ff:ff:ff:ff:ff"
TAGS: tuple[tuple[Tag, ...], ...] = (
    (),
    ((ETH_VLAN, 0),),
    ((ETH_VLAN, 100),),
    ((ETH_VLAN, 4095),),
    ((ETH_VLAN, 0), (ETH_VLAN, 4095)),
    ((ETH_VLAN, 4095), (ETH_VLAN, 0)),
    ((ETH_SERVICE_VLAN, 0),),
    ((ETH_SERVICE_VLAN, 4095),),
    ((ETH_SERVICE_VLAN, 4095), (ETH_VLAN, 0)),
)
ADDRESSED_TO = [
    ("tcp", PROXY_PORT),
    ("tcp", SERVICE_PORT),
    ("udp", SERVICE_PORT),
    ("icmp", 0),
]


@pytest.fixture(params=["before our flows", "with our flows", "without our flows"])
def bridge(request: pytest.FixtureRequest, lab_hypervisor: Factory) -> Iterator[Hypervisor]:
    """A bridge that switches by NORMAL, with the metadata port, and our flows or not."""
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.start_metadata_service()
    if request.param == "before our flows":
        # The flow controller looks for the bridge where it is not.
        hypervisor.configure(ovs={"rundir": hypervisor.root})
        hypervisor.spawn("agent", *hypervisor.command("agent"))
        wait_for(lambda: PORT_NETWORK_IPV6 in _addresses(hypervisor), "the metadata port")
        yield hypervisor
        assert hypervisor.flows() == ""
        return
    hypervisor.start_agent()
    if request.param == "with our flows":
        yield hypervisor
        assert hypervisor.static_flows()
        return
    with hypervisor.stopped_controller():
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
        hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, "priority=0 actions=NORMAL")
        yield hypervisor
        assert hypervisor.flows() == ""


def _addresses(hypervisor: Hypervisor) -> str:
    inside = ("ip", "-6", "-n", hypervisor.metadata_namespace)
    return run(*inside, "route", "show", "table", "local", check=False)


@contextlib.contextmanager
def _proxys_network_stack(hypervisor: Hypervisor) -> Iterator[Witness]:
    """Sees what the network stack behind the metadata port takes in."""
    at = hypervisor.metadata_namespace, METADATA_PORT
    with open_raw(*at, ETH_IPV4) as ipv4, open_raw(*at, ETH_IPV6) as ipv6:
        yield Witness(ipv4, ipv6, accepted=True)


def _attack(attacker: Guest, victim_ofport: int) -> list[Frame]:
    """What the attacker tries, to speak to the proxy at the victim's port address, or from it."""
    victims = {version: port_address(victim_ofport, version) for version in (4, 6)}
    return [
        Frame(attacker.mac, mac, source, target, kind, port, tags)
        for source, target in (
            ("10.0.0.66", victims[4]),
            ("fe80::66", victims[6]),
            (victims[4], SERVICE_IPV4),
            (victims[6], SERVICE_IPV6),
        )
        for mac in (METADATA_PORT_MAC, BROADCAST)
        for kind, port in ADDRESSED_TO
        for tags in TAGS
    ]


def _is_a_request(frame: Frame) -> bool:
    """Whether a hook takes it, if the port has hooks, and gives it the port's own address."""
    in_no_vlan = frame.tags in ((), ((ETH_VLAN, 0),), ((ETH_SERVICE_VLAN, 0),))
    to_service = frame.target in (SERVICE_IPV4, SERVICE_IPV6)
    return in_no_vlan and to_service and (frame.protocol, frame.port) == ("tcp", SERVICE_PORT)


@pytest.mark.parametrize("served", [False, True], ids=["stranger", "instance"])
def test_a_neighbour_cannot_speak_to_the_proxy_under_anothers_port_address(
    bridge: Hypervisor, served: bool
) -> None:
    victim = bridge.add_guest("victim", mac="fa:16:3e:00:00:01")
    witness = bridge.add_guest("witness", mac="fa:16:3e:00:00:02", address="", record=False)
    attacker = bridge.add_guest("attacker", mac="fa:16:3e:00:00:66", address="", record=served)
    with_flows = bool(bridge.flows())
    if with_flows:
        bridge.wait_until_served(victim)
        if served:
            bridge.wait_until_served(attacker)
    hooked = with_flows and served
    attack = [
        frame
        for frame in _attack(attacker, bridge.ovs.ofport(victim.tap))
        if not (hooked and _is_a_request(frame))
    ]
    with (
        open_raw(attacker.name, "eth0") as sender,
        open_raw(witness.name, "eth0") as raw,
        _proxys_network_stack(bridge) as stack,
    ):
        everywhere = Witness(raw)
        for number, frame in enumerate(attack):
            sender.send(frame.serialize())
            # The switch keeps the order: with this one, what was sent before it is everywhere.
            if number % 10 == 0 or frame is attack[-1]:
                last = Frame(attacker.mac, BROADCAST, "10.0.0.66", "10.0.0.5", "udp", number)
                sender.send(last.serialize())
                everywhere.wait_until_seen(last)
        assert [frame for frame in attack if stack.saw(frame)] == []
        # NORMAL did bring them wherever they may go.
        assert [frame for frame in attack if not everywhere.saw(frame)] == []
        # And a packet that another program's flow sends there is seen there.
        ofport = bridge.ovs.ofport(METADATA_PORT)
        leak = f"priority=65000,in_port={bridge.ovs.ofport(attacker.tap)} actions=output:{ofport}"
        bridge.ovs.ofctl("add-flow", bridge.bridge, leak)
        for frame in attack:
            if not frame.tags:
                # More than once: for a moment the switch goes by what it has cached.
                wait_for(
                    lambda frame=frame: sender.send(frame.serialize()) and stack.saw(frame),  # type: ignore[misc]
                    f"the proxy's network stack to take in {frame}",
                )


def test_a_neighbour_with_the_proxys_mac_takes_nothing_over(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    victim = hypervisor.add_guest("victim")
    hypervisor.wait_until_served(victim)
    thief = hypervisor.add_guest("thief", mac=METADATA_PORT_MAC, address="169.254.169.254/16")
    witness = hypervisor.add_guest("witness", mac="fa:16:3e:00:00:02", address="", record=False)
    with open_raw(thief.name, "eth0") as sender, open_raw(witness.name, "eth0") as raw:
        frame = Frame(METADATA_PORT_MAC, BROADCAST, SERVICE_IPV4, "10.0.0.5", "udp", 7)
        sender.send(frame.serialize())
        Witness(raw).wait_until_seen(frame)
        # From here on NORMAL knows the MAC behind the thief's port.
        ofport = hypervisor.ovs.ofport(thief.tap)
        table = hypervisor.ovs.appctl("fdb/show", hypervisor.bridge).splitlines()
        assert any(line.split()[:3] == [str(ofport), "0", METADATA_PORT_MAC] for line in table), (
            table
        )
        for ipv6 in (False, True):
            assert victim.identity(ipv6=ipv6) == victim.instance_id
