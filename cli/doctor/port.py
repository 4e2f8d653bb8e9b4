"""The hop "port": interfaces of the bridge, their records, and what the agent knows of them.

The checks are pure: facts in, findings out.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ovs_metadata.cli.doctor.advice import Advice, Command, open_port, vsctl
from ovs_metadata.cli.doctor.agent import AdminFacts, AgentFacts, read_admin
from ovs_metadata.cli.doctor.elsewhere import OtherInterface
from ovs_metadata.cli.doctor.last_request import last_of_all, last_request
from ovs_metadata.cli.doctor.open_vswitch import SwitchFacts
from ovs_metadata.cli.doctor.port_advice import (
    another_number,
    naming,
    readable_options,
    renewal,
    setting_up,
    without_left_over,
)
from ovs_metadata.cli.doctor.port_facts import PortFacts, port_facts
from ovs_metadata.cli.doctor.report import Fault, Faults, Finding, HopName, HopReport
from ovs_metadata.cli.doctor.retry import retry_while_wrong
from ovs_metadata.cli.host_view import Host, read_host
from ovs_metadata.cli.named_records import records_named
from ovs_metadata.cli.port_status import canonical_address, is_named, record_in
from ovs_metadata.flows.port_states import in_words
from ovs_metadata.host.address import LEAST_PATH_MTU, port_address, why_unservable
from ovs_metadata.host.config import OVN, Config
from ovs_metadata.host.join import DEAD_VLAN, NO_OPTIONS, ServedPort
from ovs_metadata.host.records import read_records
from ovs_metadata.quantities import count_of
from ovs_metadata.store.interface import BoundElsewhere, MalformedRecord
from ovs_metadata.store.record import COMPUTE, PortRecord, is_port_id
from ovs_metadata.store.store import Store

MAX_NAMED = 3
"""Ports whose last request is printed, of those that one name means."""

FAULTS = Faults(HopName.PORT)

PORT_UNKNOWN = FAULTS.error(
    "port-unknown",
    "Neither this bridge nor any record names the port.",
    "Check the spelling. If Neutron has the port, its record is missing: ovs-metadata port sync "
    "--from-neutron writes it.",
)
PORT_NOT_HERE = FAULTS.error(
    "port-not-here",
    "There is a record of the port, but this bridge has no interface for it.",
    "Run the doctor on the instance's hypervisor. If it is this one, Nova has not plugged the "
    "port: no interface has the port's UUID as external_ids:iface-id.",
)
PORT_ON_OTHER_BRIDGE = FAULTS.error(
    "port-on-other-bridge",
    "The port's interface is on another bridge than the agent serves.",
    "Move the interface to the agent's bridge, or name its bridge in [ovs] bridge and restart the "
    "agent, which serves one bridge.",
)
IFACE_ID_MISSING = FAULTS.error(
    "iface-id-missing",
    "The interface names no Neutron port.",
    "Set external_ids:iface-id of the interface to the port's UUID, as Nova does when it plugs a "
    "port.",
)
IFACE_ID_MALFORMED = FAULTS.error(
    "iface-id-malformed",
    "The interface's external_ids:iface-id is not a UUID.",
    "Set external_ids:iface-id to the port's UUID.",
)
IFACE_ID_TWICE = FAULTS.error(
    "iface-id-twice",
    "Several interfaces claim the same Neutron port; none of them is served.",
    "Remove the interface that is left over: ovs-vsctl del-port NAME.",
)
OFPORT_MISSING = FAULTS.error(
    "ofport-missing",
    "Open vSwitch has not added the interface to the bridge.",
    "ovs-vsctl get interface NAME error, and the log of ovs-vswitchd, give the cause: mostly the "
    "device does not exist. Remove an interface that is left over: ovs-vsctl del-port NAME.",
)
OFPORT_UNSERVABLE = FAULTS.error(
    "ofport-unservable",
    "The interface has an OpenFlow number that cannot be served.",
    "Unplug the port and plug it again, so that it gets another number.",
)
OFPORT_MOVING = FAULTS.error(
    "ofport-moving",
    "The interface is about to get another OpenFlow number.",
    "Run the doctor again in a moment. If the finding remains, the log of ovs-vswitchd gives the "
    "cause.",
)
OPTIONS_UNUSABLE = FAULTS.error(
    "options-unusable",
    "The store's metadata options of the port's project or network cannot be used.",
    "mn-conf project-list names a project whose options cannot be read: clear them with mn-conf "
    "project-clear, and set them again. Options of networks are renewed by ovs-metadata port sync "
    "--from-neutron.",
)
ON_DEAD_VLAN = FAULTS.error(
    "dead-vlan",
    "The port is on the dead VLAN: Neutron's agent has not wired it.",
    "Check that neutron-openvswitch-agent runs on this host, and read its log for this port.",
)
PORT_CLOSED = FAULTS.error(
    "port-closed",
    "The bridge lets no packet through the port: its OpenFlow configuration forbids it.",
    "Open the port with ovs-ofctl mod-port, and find out which program closed it.",
)
LINK_DOWN = FAULTS.error(
    "link-down",
    "The interface's device is down or not connected.",
    "Check that the instance runs. If the device was set down: ip link set NAME up.",
)
MTU_TOO_SMALL = FAULTS.error(
    "mtu-too-small",
    "The interface's device has a smaller MTU than the proxy's packets.",
    "Find out what sets the MTU of the device. The network's MTU in Neutron has to be 1280 or "
    "more, which IPv6 needs, too.",
)
NOT_AN_INSTANCE = FAULTS.error(
    "not-an-instance",
    "The port does not belong to an instance, so it is not served.",
    "Nothing, if that is right. Otherwise correct its device_owner in Neutron: it must begin with "
    "compute:.",
)
PORT_DISABLED = FAULTS.note(
    "port-disabled",
    "The port is disabled in Neutron, so it is not served.",
    "Nothing, if that is right. Otherwise: openstack port set --enable PORT.",
)
BOUND_ELSEWHERE = FAULTS.error(
    "bound-elsewhere",
    "OVN has bound the port to another hypervisor, so it is not served here.",
    "During a live migration wait until it has ended. Otherwise the interface on this host is left "
    "over: remove it with ovs-vsctl del-port NAME.",
)
RECORD_MISSING = FAULTS.error(
    "record-missing",
    "There is no record of the port, or of the trunk's parent port.",
    "Check that Neutron's server has the ovs_metadata service plugin and reaches the store. "
    "ovs-metadata port sync --from-neutron writes missing records.",
)
RECORD_MALFORMED = FAULTS.error(
    "record-malformed",
    "The port's record cannot be used.",
    "Write the record again: ovs-metadata port sync --from-neutron, or ovs-metadata port set.",
)
RECORD_WITHOUT_ADDRESS = FAULTS.error(
    "record-without-address",
    "The port's record has no fixed IP, which Nova needs.",
    "Give the port an address in Neutron.",
)
RECORD_OF_OTHER_INSTANCE = FAULTS.error(
    "record-of-other-instance",
    "The record and Nova name different instances; neither gets metadata by this port.",
    "One of the two is stale. ovs-metadata port sync --from-neutron renews the record; Nova "
    "writes external_ids:vm-uuid when it plugs the port.",
)
RECORD_OF_OTHER_MAC = FAULTS.error(
    "record-of-other-mac",
    "The record and the instance's device have different MACs: answers do not reach the instance.",
    "The record is stale: ovs-metadata port sync --from-neutron renews it.",
)
AGENT_SEES_OTHERWISE = FAULTS.error(
    "agent-sees-otherwise",
    "The agent's view of the port differs from its record and Open vSwitch.",
    "Run the doctor again in a moment. If the finding remains, restart the agent, and keep its "
    "log for a report.",
)
TAG_WITHOUT_EFFECT = FAULTS.warning(
    "tag-without-effect",
    "A tag of the port or its network looks like a metadata option, and sets none.",
    "Correct the tag in Neutron: metadata:KEY=VALUE. docs/metadata-options.md has the options and "
    "their values.",
)
SOURCE_NOT_IN_RECORD = FAULTS.note(
    "source-not-in-record",
    "The instance asks from an address that its record does not have.",
    "Nothing, if that is right: an allowed address pair, or a network inside the instance. The "
    "answer is the same, and Nova gets the record's address.",
)
ANSWERS_NOT_TAKEN = FAULTS.warning(
    "answers-not-taken",
    "The instance begins connections to the proxy, and does not take the answers.",
    "Check inside the instance: its own firewall, and that its device has the MAC and the address "
    "of the record, to which the answers go.",
)
GUEST_NEVER_ASKED = FAULTS.note(
    "guest-never-asked",
    "No request from the instance has reached the switch since its flows were installed.",
    "If requests in the instance fail, its packets do not reach the switch: check its address, "
    "and its route to 169.254.169.254, inside the instance.",
)


@dataclass(frozen=True, slots=True)
class PortsFacts:
    """The ports in question.

    host: what was seen of all ports. selector: the name that chose them; empty for all ports of
    instances. elsewhere: the records it names, if it names no interface here; on_others: the
    interfaces of other bridges that it names then.
    """

    host: Host
    selector: str
    chosen: tuple[PortFacts, ...]
    elsewhere: tuple[PortRecord, ...] = ()
    on_others: tuple[OtherInterface, ...] = ()

    @property
    def places(self) -> frozenset[int] | None:
        """The places of the ports that were named (host/address.py); None for all."""
        if not self.selector:
            return None
        return frozenset(port.interface.place or 0 for port in self.chosen)

    @property
    def well(self) -> tuple[PortFacts, ...]:
        """Those that can be tried out: nothing else is wrong with them than a mistyped tag."""
        return tuple(
            port
            for port in self.chosen
            # Without its effect, a tag leaves the port as it is.
            if all(finding.fault is TAG_WITHOUT_EFFECT for finding in check_one(port))
        )

    @property
    def to_try(self) -> tuple[ServedPort, ...]:
        """The ports to try out: all that were named and are well, or one for all."""
        served = self.host.host_ports.served
        found = tuple(
            served[port.interface.place or 0]
            for port in self.well
            if port.interface.place in served
        )
        return found if self.selector else found[:1]


def read_ports(
    config: Config, switch: SwitchFacts, store: Store, selector: str, agent: AgentFacts
) -> PortsFacts:
    """Read the ports in question; the agent, which may be a moment behind, is asked again.

    Raises:
        StoreError: the store cannot be read.
    """
    assert switch.bridge  # noqa: S101 - or there is nothing to read
    host = read_host(config, switch.bridge, store)
    every = [port_facts(host, status, switch.ports) for status in host.port_statuses]
    chosen = [port for port in every if is_instance_port(port)]
    if selector:
        chosen = [port for port in every if is_named(port.interface, port.record, selector)]
    facts = PortsFacts(host, selector, tuple(chosen))
    if selector and not chosen:
        records = tuple(_elsewhere(config, store, selector))
        names = {selector, *(each.port_id for each in records)}
        others = switch.elsewhere.interfaces
        on_others = tuple(each for each in others if any(map(each.is_named, names)))
        return replace(facts, elsewhere=records, on_others=on_others)

    def lags(facts: PortsFacts) -> bool:
        return any(finding.fault is AGENT_SEES_OTHERWISE for finding in check(facts))

    return retry_while_wrong(
        with_agent_view(facts, agent.admin),
        lambda: with_agent_view(facts, read_admin(config.admin_socket)),
        lags,
        patient=agent.at_work,
    )


def with_agent_view(facts: PortsFacts, admin: AdminFacts | None) -> PortsFacts:
    """The same ports, and what the agent says of them."""
    asked = bool(admin and not admin.silent and not admin.unreachable)
    views = {each["port_id"]: each for each in admin.ports} if admin else {}
    return replace(
        facts,
        chosen=tuple(
            replace(port, asked=asked, agent_view=views.get(port.port_id)) for port in facts.chosen
        ),
    )


def _elsewhere(config: Config, store: Store, selector: str) -> list[PortRecord]:
    """The records that a selector names; of OVN's, only that of a port's UUID can be looked up."""
    if config.records != OVN:
        return records_named(store, selector)
    port_id = selector.lower()
    states = read_records(config, store, [port_id] if is_port_id(port_id) else [])
    return [record for record in map(record_in, states.values()) if record]


def examine(facts: PortsFacts, unaccepted: Mapping[str, int] = MappingProxyType({})) -> HopReport:
    """Report on interfaces and records; unaccepted: see `tcp_sockets`."""
    seen = ", ".join(map(_described, facts.chosen))
    if not facts.selector:
        ports = count_of(len(facts.chosen), "instance port")
        seen = f"{ports}, {len(facts.well)} as it should be"
    named = facts.chosen[:MAX_NAMED] if facts.selector else ()
    views = [(each.interface.name, each.agent_view) for each in named or facts.chosen]
    besides = tuple(itertools.starmap(last_request, views)) if named else last_of_all(views)
    found = (
        *check(facts),
        *itertools.chain.from_iterable(map(_of_source, named)),
        *itertools.chain.from_iterable(of_answers(each, unaccepted) for each in named),
    )
    return HopReport(HopName.PORT, found, seen, besides=besides)


def _of_source(port: PortFacts) -> Iterator[Finding]:
    """The address that the instance asks from, if its record has another; any is served."""
    source = (port.agent_view or {}).get("last_source")
    if not source or port.record is None or source.startswith("fe80:"):
        return
    if canonical_address(source) not in port.record.fixed_ips:
        why = f"it asked last from {source}, its record has {', '.join(port.record.fixed_ips)}"
        yield Finding(SOURCE_NOT_IN_RECORD, why, port.title)


def of_answers(port: PortFacts, unaccepted: Mapping[str, int]) -> Iterator[Finding]:
    """Connections that the instance has begun, and whose answers it does not take."""
    served = port.status.served
    if served is None:
        return
    number = sum(unaccepted.get(port_address(served.place, version), 0) for version in (4, 6))
    if number:
        why = (
            f"for {count_of(number, 'connection')} the answer was sent again to "
            f"{served.record.mac_address}, and the instance has not confirmed it"
        )
        yield Finding(ANSWERS_NOT_TAKEN, why, port.title)


def _described(port: PortFacts) -> str:
    instance = port.record.device_id if port.record else port.interface.vm_uuid
    return (
        f"instance {instance or 'unknown'}, {port.interface.name}, ofport {port.interface.ofport}"
    )


def check(facts: PortsFacts) -> list[Finding]:
    """Check the ports in question; none that was named need be here."""
    bridge, selector = facts.host.bridge.name, facts.selector
    if facts.chosen or not selector:
        return list(itertools.chain.from_iterable(map(check_one, facts.chosen)))
    if facts.on_others:
        return [_on_other_bridge(each, bridge) for each in facts.on_others]
    if not facts.elsewhere:
        why = f"no interface of {bridge} and no record is named {selector}"
        return [Finding(PORT_UNKNOWN, why, selector)]
    return [
        Finding(
            PORT_NOT_HERE,
            f"no interface of {bridge} has iface-id {record.port_id}",
            record.port_id,
        )
        for record in facts.elsewhere
    ]


def _on_other_bridge(interface: OtherInterface, bridge: str) -> Finding:
    why = f"{interface.name} is on {interface.bridge}, [ovs] bridge is {bridge}"
    ids = sorted(interface.external_ids.items())
    move = vsctl(
        *("del-port", interface.bridge, interface.name),
        *("--", "add-port", bridge, interface.name, "--", "set", "interface", interface.name),
        *(f"external_ids:{name}={value}" for name, value in ids),
    )
    subject = interface.external_ids.get("iface-id") or f"interface {interface.name}"
    advice = Advice(PORT_ON_OTHER_BRIDGE.remedy, (move,))
    return Finding(PORT_ON_OTHER_BRIDGE, why, subject, advice=advice)


def is_instance_port(port: PortFacts) -> bool:
    """Whether it is an instance's, by its record, or because Nova has written on the interface."""
    if port.record is not None:
        return port.record.device_owner.startswith(COMPUTE)
    return port.interface.vm_uuid is not None


def check_one(port: PortFacts) -> list[Finding]:
    """One interface, and its record."""
    found = list(_of_interface(port)) or list(_of_record(port))
    return [*(found or _of_agents_view(port)), *_of_tags(port)]


def _of_tags(port: PortFacts) -> Iterator[Finding]:
    served = port.status.served
    if served is not None and served.options.unknown:
        yield Finding(TAG_WITHOUT_EFFECT, ", ".join(served.options.unknown), port.title)


def _of_interface(port: PortFacts) -> Iterator[Finding]:
    def finding(fault: Fault, why: str = port.status.reason or "") -> Finding:
        return Finding(fault, why, port.title)

    interface, name = port.interface, port.interface.name
    if not interface.iface_id:
        yield replace(finding(IFACE_ID_MISSING), advice=naming(interface))
    elif port.port_id is None:
        yield replace(finding(IFACE_ID_MALFORMED), advice=naming(interface))
    elif port.record and not is_instance_port(port):
        yield finding(NOT_AN_INSTANCE)
    elif port.record and not port.record.admin_state_up:
        yield finding(PORT_DISABLED)
    elif interface.ofport is None or interface.ofport <= 0:
        yield _without_ofport(port)
    elif port.rivals:
        rivals = ", ".join(sorted([name, *port.rivals]))
        twice = finding(IFACE_ID_TWICE, f"{port.status.reason}: {rivals}")
        yield replace(twice, advice=without_left_over(port))
    elif why_unservable(interface.ofport):
        yield replace(finding(OFPORT_UNSERVABLE), advice=another_number(port))
    else:
        if interface.tag == DEAD_VLAN:
            yield finding(ON_DEAD_VLAN)
        if port.link:
            down = finding(LINK_DOWN, f"device {name} {port.link}")
            yield replace(down, advice=setting_up(port))
        if port.closed:
            why = f"interface {name} has {in_words(port.closed)}"
            advice = Advice(PORT_CLOSED.remedy, open_port(name, port.closed))
            yield replace(finding(PORT_CLOSED, why), advice=advice)
        if port.mtu is not None and port.mtu < LEAST_PATH_MTU:
            why = f"device {name} has {port.mtu}; packets may have {LEAST_PATH_MTU} bytes"
            yield replace(finding(MTU_TOO_SMALL, why), advice=_wider(name))


def _wider(name: str) -> Advice:
    words = ("link", "set", name, "mtu", str(LEAST_PATH_MTU))
    return Advice(MTU_TOO_SMALL.remedy, (Command("ip", words),))


def _without_ofport(port: PortFacts) -> Finding:
    """Of no consequence where another interface of the same port has one."""
    if not port.rivals:
        return Finding(OFPORT_MISSING, port.status.reason or "", port.title)
    name = port.interface.name
    rivals = ", ".join(sorted(port.rivals))
    why = f"interface {name} has no ofport, and {rivals} with the same iface-id has"
    return Finding(OFPORT_MISSING, why, f"interface {name}", lesser=True)


def _of_record(port: PortFacts) -> Iterator[Finding]:
    def finding(fault: Fault, why: str = port.status.reason or "") -> Finding:
        return Finding(fault, why, port.title)

    interface, record = port.interface, port.record
    if isinstance(port.state, BoundElsewhere):
        yield finding(BOUND_ELSEWHERE)
        return
    if isinstance(port.state, MalformedRecord):
        yield replace(finding(RECORD_MALFORMED), advice=renewal(RECORD_MALFORMED, port))
        return
    if record is None:
        yield replace(finding(RECORD_MISSING), advice=renewal(RECORD_MISSING, port))
        return
    if port.status.reason == NO_OPTIONS:
        yield replace(finding(OPTIONS_UNUSABLE), advice=readable_options(port.unusable))
        return
    if port.status.served is None:
        wanted = interface.ofport_request
        why = f"it has number {interface.ofport}, and asks for {wanted}"
        if wanted in {None, interface.ofport}:
            why = f"another interface asks for its number, {interface.ofport}"
        yield finding(OFPORT_MOVING, f"{port.status.reason}: {why}")
        return
    if port.status.served.disagreement:
        other = finding(RECORD_OF_OTHER_INSTANCE, port.status.served.disagreement)
        yield replace(other, advice=renewal(RECORD_OF_OTHER_INSTANCE, port))
    if record.primary is None:
        yield finding(RECORD_WITHOUT_ADDRESS, "its record has no fixed IP")
    mac = (interface.attached_mac or record.mac_address).lower()
    if mac != record.mac_address:
        why = f"interface {interface.name} has {mac}, the record says {record.mac_address}"
        yield replace(finding(RECORD_OF_OTHER_MAC, why), advice=renewal(RECORD_OF_OTHER_MAC, port))


def _of_agents_view(port: PortFacts) -> Iterator[Finding]:
    if not port.asked or not isinstance(port.state, PortRecord):
        return
    view = port.agent_view or {}
    if view.get("instance_id") != port.state.device_id:
        why = "the agent does not have it at all"
        if port.agent_view:
            why = f"the agent has it as {view.get('state')}, for instance {view.get('instance_id')}"
        if view.get("reason"):
            why += f": {view['reason']}"
        yield Finding(AGENT_SEES_OTHERWISE, why, port.title)
