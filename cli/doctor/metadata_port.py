"""The hop "metadata port": the port on the bridge, its network namespace, and who listens there.

The checks are pure: facts in, findings out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ovs_metadata.agent.network import namespaces
from ovs_metadata.agent.network.device import own_networks
from ovs_metadata.agent.network.ip_versions import device_versions, kernel_versions
from ovs_metadata.agent.network.listening import listener_addresses
from ovs_metadata.agent.network.netlink import IPRoute
from ovs_metadata.cli.doctor.advice import Advice, Command, open_port, vsctl
from ovs_metadata.cli.doctor.firewall import Firewall, blockers, guests_packets, read_firewall
from ovs_metadata.cli.doctor.open_vswitch import SwitchFacts
from ovs_metadata.cli.doctor.report import Faults, Finding, HopName, HopReport
from ovs_metadata.cli.doctor.tcp_sockets import listening
from ovs_metadata.flows.port_states import OpenFlowPort, in_words
from ovs_metadata.host.address import (
    METADATA_PORT,
    METADATA_PORT_MAC,
    METADATA_PORT_MTU,
    PORT_NETWORKS,
    PROXY_PORT,
    IpVersion,
)
from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb import Bridge

_IFF_UP = 0x1
"""Of linux/if.h."""

FAULTS = Faults(HopName.METADATA_PORT)

METADATA_PORT_MISSING = FAULTS.error(
    "metadata-port-missing",
    "The bridge has no metadata port.",
    "The agent creates it: check that the agent runs and is ready.",
)
METADATA_PORT_FOREIGN = FAULTS.error(
    "metadata-port-foreign",
    "The bridge has a port named metadata that the agent did not create.",
    "Rename that port, or delete it if nothing needs it. The agent then creates its own.",
)
METADATA_PORT_NOT_ISOLATED = FAULTS.error(
    "metadata-port-not-isolated",
    "The metadata port is not isolated, so no flow leads to it.",
    "The agent isolates it (vlan_mode=trunk trunks=4095, no tag): check that the agent runs, and "
    "find out what else changes that port.",
)
METADATA_PORT_WITHOUT_OFPORT = FAULTS.error(
    "metadata-port-without-ofport",
    "Open vSwitch has no device for the metadata port.",
    "ovs-vsctl get interface metadata error, and the log of ovs-vswitchd, give the cause.",
)
METADATA_PORT_CLOSED = FAULTS.error(
    "metadata-port-closed",
    "The bridge lets no packet through the metadata port: its OpenFlow configuration forbids it.",
    "Open the port with ovs-ofctl mod-port, and find out which program closed it.",
)
NAMESPACE_MISSING = FAULTS.error(
    "namespace-missing",
    "The metadata port's network namespace does not exist.",
    "The agent creates it again: check that the agent runs, and find out what removes namespaces.",
)
DEVICE_MISSING = FAULTS.error(
    "device-missing",
    "The metadata port's device is not in its network namespace.",
    "The agent moves it there: check that the agent runs and is ready.",
)
DEVICE_DOWN = FAULTS.error(
    "device-down",
    "The metadata port's device is down.",
    "The agent sets it up: check that the agent runs, and find out what sets the device down.",
)
LOOPBACK_DOWN = FAULTS.error(
    "loopback-down",
    "The loopback device is down in the metadata port's network namespace.",
    "The agent sets it up: check that the agent runs, and find out what sets it down.",
)
DEVICE_MAC_WRONG = FAULTS.error(
    "device-mac-wrong",
    "The metadata port's device has another MAC than the one that guests send to.",
    "The agent sets the MAC: check that the agent runs, and find out what changes it.",
)
DEVICE_MTU_WRONG = FAULTS.warning(
    "device-mtu-wrong",
    "The metadata port's device has another MTU than the agent sets.",
    "The agent sets the MTU: check that the agent runs, and find out what changes it. Below 1280 "
    "there is no IPv6.",
)
ADDRESS_MISSING = FAULTS.error(
    "address-missing",
    "The metadata port's device lacks an address.",
    "The agent adds it: check that the agent runs, and find out what removes addresses.",
)
NOT_LISTENING = FAULTS.error(
    "not-listening",
    "No process listens for guests in the metadata port's network namespace.",
    "The agent opens the sockets: check that the agent runs and is ready.",
)
NAMESPACE_FIREWALL = FAULTS.error(
    "namespace-firewall",
    "A firewall in the metadata port's network namespace drops guests' packets.",
    "Remove the rule, and find out what writes rules into that network namespace: nothing needs "
    "any there.",
)


WITHOUT_IPV6 = FAULTS.note(
    "without-ipv6",
    "IPv6 is switched off in the metadata port's network namespace.",
    "Nothing, if no instance asks over IPv6. Otherwise switch it on, and find out what switched it "
    "off: sysctl's disable_ipv6.",
)


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The metadata port's device."""

    up: bool
    mac: str
    addresses: frozenset[str]
    mtu: int = METADATA_PORT_MTU


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """The metadata port's network namespace. Sockets are (address, port).

    versions: of IP that the device has; kernel: those that the kernel has. in_the_way: whether the
    host's namespace has a device of that name which is not Open vSwitch's.
    """

    name: str
    exists: bool = False
    device: DeviceFacts | None = None
    wanted_addresses: tuple[str, ...] = ()
    listening: frozenset[tuple[str, int]] = frozenset()
    wanted_listening: tuple[tuple[str, int], ...] = ()
    in_the_way: bool = False
    loopback_up: bool = True
    versions: tuple[IpVersion, ...] = (4, 6)
    kernel: tuple[IpVersion, ...] = (4, 6)
    firewall: Firewall = field(default_factory=Firewall)


def read_namespace(config: Config) -> NamespaceFacts:
    """Read the metadata port's network namespace: its device, and its listening sockets."""
    in_the_way = _is_in_the_way()
    if namespaces.namespace_id(config.namespace) is None:
        return NamespaceFacts(config.namespace, in_the_way=in_the_way)
    with namespaces.inside_namespace(config.namespace):
        ipv6 = 6 in device_versions()
        return NamespaceFacts(
            config.namespace,
            exists=True,
            device=_metadata_device(),
            wanted_addresses=(*PORT_NETWORKS[4], *(PORT_NETWORKS[6] if ipv6 else ())),
            listening=frozenset(listening()),
            wanted_listening=tuple(listener_addresses()),
            in_the_way=in_the_way,
            loopback_up=_is_up("lo"),
            versions=(4, 6) if ipv6 else (4,),
            kernel=kernel_versions(),
            firewall=read_firewall(),
        )


def _is_up(device: str) -> bool:
    """Whether a device of this namespace is up."""
    with IPRoute() as here:
        return any(link["flags"] & _IFF_UP for link in here.get_links(ifname=device))


_OF_OPEN_VSWITCH = frozenset({"openvswitch", "tun"})
"""Kinds of the devices of internal ports: of the kernel's datapath, and of the userspace's."""


def _is_in_the_way() -> bool:
    """Whether a device that is not Open vSwitch's has the metadata port's name here."""
    with IPRoute() as here:
        for link in here.get_links(ifname=METADATA_PORT):
            kind = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
            return kind not in _OF_OPEN_VSWITCH
    return False


def _metadata_device() -> DeviceFacts | None:
    with IPRoute() as here:
        for link in here.get_links(ifname=METADATA_PORT):
            return DeviceFacts(
                up=bool(link["flags"] & _IFF_UP),
                mac=link.get_attr("IFLA_ADDRESS"),
                mtu=link.get_attr("IFLA_MTU"),
                addresses=own_networks(here, link["index"]),
            )
    return None


def examine(switch: SwitchFacts, config: Config, *, agent_runs: bool) -> HopReport:
    """Report on the metadata port."""
    facts = read_namespace(config)
    found = check(switch.bridge, facts, agent_runs=agent_runs, openflow=switch.ports)
    return HopReport(HopName.METADATA_PORT, tuple(found), f"in namespace {facts.name}")


def check(
    bridge: Bridge | None,
    facts: NamespaceFacts,
    *,
    agent_runs: bool,
    openflow: Mapping[int, OpenFlowPort] = MappingProxyType({}),
) -> Iterator[Finding]:
    """Check the metadata port, its network namespace, and, if the agent runs, its listeners.

    openflow: the bridge's ports that do not pass all packets.
    """
    problem = _of_bridge_port(bridge, in_the_way=facts.in_the_way)
    if problem:
        yield problem
    elif facts.exists:
        yield from _of_device(facts)
        yield from _of_openflow(bridge, openflow)
    if not facts.exists:
        yield Finding(NAMESPACE_MISSING, f"there is no network namespace {facts.name}")
        return
    if not facts.loopback_up:
        yield Finding(LOOPBACK_DOWN, f"device lo in {facts.name} is down", advice=_loopback(facts))
    if set(facts.versions) < set(facts.kernel):
        yield _without_ipv6(facts)
    missing = [each for each in facts.wanted_listening if each not in facts.listening]
    yield from _of_firewall(bridge, facts)
    if missing and agent_runs:
        where = ", ".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in missing
        )
        yield Finding(NOT_LISTENING, f"no process listens on {where} in {facts.name}")


def _of_firewall(bridge: Bridge | None, facts: NamespaceFacts) -> Iterator[Finding]:
    """Rules that drop packets of guests for certain, or else those that may do so."""
    ofports = [each.ofport or 0 for each in bridge.interfaces.values()] if bridge else []
    packets = guests_packets(ofports, facts.versions)
    found = blockers(facts.firewall.rules, packets, came_by=False)
    certain = [each for each in found if each.certain]
    for each in certain or found[:1]:
        why = f"{each} drops packets for port {PROXY_PORT}"
        if not each.certain:
            why = f"{each} may drop packets for port {PROXY_PORT}: it asks for more than is known"
        advice = Advice(NAMESPACE_FIREWALL.remedy, (each.removal(facts.name),))
        yield Finding(NAMESPACE_FIREWALL, why, lesser=not each.certain, advice=advice)


def _without_ipv6(facts: NamespaceFacts) -> Finding:
    why = f"device {METADATA_PORT} in {facts.name} has IPv4 alone"
    setting = f"net.ipv6.conf.{METADATA_PORT}.disable_ipv6=0"
    switch_on = Command("ip", ("netns", "exec", facts.name, "sysctl", "-w", setting))
    return Finding(WITHOUT_IPV6, why, advice=Advice(WITHOUT_IPV6.remedy, (switch_on,)))


def _loopback(facts: NamespaceFacts) -> Advice:
    text = "Set it up. The agent does so, too: check that it runs. Find out what set it down."
    return Advice(text, (Command("ip", ("-n", facts.name, "link", "set", "lo", "up")),))


def _of_bridge_port(bridge: Bridge | None, *, in_the_way: bool) -> Finding | None:
    port = bridge.metadata_port if bridge else None
    if port is None:
        why = f"the bridge has no port {METADATA_PORT}"
        return Finding(METADATA_PORT_MISSING, why)
    if not port.ours:
        why = "it lacks our external_ids, or is no internal port"
        advice = Advice(METADATA_PORT_FOREIGN.remedy, (vsctl("del-port", METADATA_PORT),))
        return Finding(METADATA_PORT_FOREIGN, why, advice=advice)
    if not port.isolated:
        return Finding(METADATA_PORT_NOT_ISOLATED, "its VLANs were changed")
    if port.ofport is None:
        why = f"interface {METADATA_PORT} has no ofport"
        if not in_the_way:
            return Finding(METADATA_PORT_WITHOUT_OFPORT, why)
        why += f", and this host has another device named {METADATA_PORT}"
        advice = Advice(
            "Rename that device, or delete it if nothing needs it; and the port. The agent makes "
            "the port again.",
            (
                Command("ip", ("link", "delete", METADATA_PORT)),
                vsctl("del-port", METADATA_PORT),
            ),
        )
        return Finding(METADATA_PORT_WITHOUT_OFPORT, why, advice=advice)
    return None


def _of_openflow(bridge: Bridge | None, openflow: Mapping[int, OpenFlowPort]) -> Iterator[Finding]:
    """The switches of the port that are off.

    Open vSwitch takes a device in another namespace for one that is down; the device tells.
    """
    ofport = bridge.metadata_ofport if bridge else None
    port = openflow.get(ofport or 0, OpenFlowPort())
    closed = tuple(each for each in port.closed if each != "up")
    if closed:
        why = f"interface {METADATA_PORT} has {in_words(closed)}"
        advice = Advice(METADATA_PORT_CLOSED.remedy, open_port(METADATA_PORT, closed))
        yield Finding(METADATA_PORT_CLOSED, why, advice=advice)


def _of_device(facts: NamespaceFacts) -> Iterator[Finding]:
    device = facts.device
    if device is None:
        why = f"network namespace {facts.name} has no device {METADATA_PORT}"
        yield Finding(DEVICE_MISSING, why)
        return
    if not device.up:
        yield Finding(DEVICE_DOWN, f"device {METADATA_PORT} in {facts.name} is down")
    if device.mac != METADATA_PORT_MAC:
        why = f"its MAC is {device.mac}, and should be {METADATA_PORT_MAC}"
        yield Finding(DEVICE_MAC_WRONG, why)
    if device.mtu != METADATA_PORT_MTU:
        why = f"its MTU is {device.mtu}, and should be {METADATA_PORT_MTU}"
        yield Finding(DEVICE_MTU_WRONG, why)
    missing = [each for each in facts.wanted_addresses if each not in device.addresses]
    # A device that is down has lost its IPv6 addresses by that.
    if missing and device.up:
        why = f"device {METADATA_PORT} in {facts.name} lacks {', '.join(missing)}"
        yield Finding(ADDRESS_MISSING, why)
