"""Which ports are served: the join of the bridge's interfaces and the store's port records.

Pure functions on values. Both the flow controller and the agent decide by `join_ports`, each
from its own view of OVSDB and the store.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from ovs_metadata.host.address import why_unservable
from ovs_metadata.host.option_documents import NO_DOCUMENTS, OptionDocuments
from ovs_metadata.metadata_options import (
    DEFAULT_OPTIONS,
    DEFAULT_POLICY,
    EffectiveOptions,
    Level,
    OptionPolicy,
    level_of_tags,
    resolve,
)
from ovs_metadata.store.interface import BoundElsewhere, PortState
from ovs_metadata.store.record import COMPUTE, SUBPORT, PortRecord

DEAD_VLAN = 4095
"""Tag that Neutron's agent gives a port it has not wired yet."""

NO_OPTIONS = "the metadata options of its network or project have not been read, or cannot be used"
"""Why a port is pending whose record alone is known."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One OVS interface of the bridge, as OVSDB shows it (ovs-vswitchd.conf.db(5)).

    `ofport` is None until ovs-vswitchd has set it, -1 when it could not add the port;
    `ofport_request` is the requested ofport. `tag` is the VLAN tag of the interface's OVS Port.
    `attached_mac` is the MAC of the instance's device, according to Nova.
    """

    name: str
    ofport: int | None = None
    iface_id: str | None = None
    vm_uuid: str | None = None
    tag: int | None = None
    ofport_request: int | None = None
    attached_mac: str | None = None
    port_id: str | None = field(init=False)
    """The Neutron port that `iface_id` names, in canonical form; None when it names none."""

    def __post_init__(self) -> None:
        """Read `iface_id` once, not at each change of any port."""
        object.__setattr__(self, "port_id", _canonical_uuid(self.iface_id or ""))


@dataclass(frozen=True, slots=True)
class ServedPort:
    """An instance's port on this bridge: where it is, and what the store knows of it."""

    ofport: int
    interface: str
    record: PortRecord
    vm_uuid: str | None = None
    options: EffectiveOptions = DEFAULT_OPTIONS

    @property
    def disagreement(self) -> str | None:
        """How the interface's vm-uuid contradicts the record, or None when it does not.

        Nova writes external_ids:vm-uuid itself, so a difference means that one side is stale.
        """
        if self.vm_uuid is None or self.vm_uuid.lower() == self.record.device_id.lower():
            return None
        return (
            f"interface {self.interface} belongs to instance {self.vm_uuid}, "
            f"the record of port {self.record.port_id} says {self.record.device_id}"
        )


Records = Mapping[str, PortState]
"""The state of each port; one that has not been reported is absent."""


@dataclass(frozen=True, slots=True)
class HostPorts:
    """The outcome of a join.

    served: by ofport. pending: port ID by ofport, for interfaces whose record is not there yet
    (missing, or malformed), whose port is bound to another chassis, and for those that are about to
    get another number. undecided: the pending ofports whose record has not been reported yet, or
    whose options.
    refused: the reason, by interface name. pending_reasons: why a port is pending, by ofport.
    Both are words for operators.
    """

    served: Mapping[int, ServedPort] = field(default_factory=dict)
    pending: Mapping[int, str] = field(default_factory=dict)
    undecided: frozenset[int] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    pending_reasons: Mapping[int, str] = field(default_factory=dict)


def _canonical_uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def join_ports(
    interfaces: Iterable[Interface],
    records: Records,
    policy: OptionPolicy | None = DEFAULT_POLICY,
    documents: OptionDocuments = NO_DOCUMENTS,
) -> HostPorts:
    """Join interfaces and records into what is served, waited for, and refused.

    Not named at all, since nothing is wrong with them: interfaces without iface-id, ports that are
    not an instance's, disabled ports, ports on the dead VLAN, and ports whose ofport is not known
    yet. Without a record a port is an instance's if Nova has written its vm-uuid.

    Args:
        interfaces: those of the bridge.
        records: the store's.
        policy: the deployment's metadata options; None: not known yet, so no port is decided.
        documents: the metadata options of networks and projects.
    """
    if policy is None:
        policy, records = DEFAULT_POLICY, {}
    usual = resolve(policy)
    served: dict[int, ServedPort] = {}
    pending: dict[int, str] = {}
    refused: dict[str, str] = {}
    interfaces = list(interfaces)
    moving = _being_renumbered(interfaces)
    claimed = [
        interface
        for interface in interfaces
        if interface.iface_id and not _is_nobodys(interface, records)
    ]
    records = with_instances(records, {interface.port_id for interface in claimed})
    levels = {
        port_id: documents.levels(record)
        for port_id, record in records.items()
        if isinstance(record, PortRecord) and may_be_served(record)
    }
    # One that ovs-vswitchd has no number for is no rival: a row left over, for example.
    claims = Counter(
        interface.port_id
        for interface in claimed
        if interface.ofport is not None and interface.ofport > 0
    )
    for interface in claimed:
        port_id = interface.port_id
        if port_id is None:
            refused[interface.name] = (
                f"external_ids:iface-id {interface.iface_id!r} is not a port UUID"
            )
            continue
        record = records.get(port_id)
        if isinstance(record, PortRecord) and not may_be_served(record):
            continue
        if claims[port_id] > 1:
            refused[interface.name] = (
                f"{claims[port_id]} interfaces claim port {port_id}: none of them is served "
                "until only one does"
            )
        elif interface.ofport is not None and interface.tag != DEAD_VLAN:
            reason = why_unservable(interface.ofport)
            if reason:
                refused[interface.name] = reason
            elif (
                isinstance(record, PortRecord)
                and interface.ofport not in moving
                and (others := levels[port_id]) is not None
            ):
                served[interface.ofport] = ServedPort(
                    interface.ofport,
                    interface.name,
                    record,
                    interface.vm_uuid,
                    _options(record, policy, others, usual),
                )
            else:
                pending[interface.ofport] = port_id
    unread = {port_id for port_id, others in levels.items() if others is None}
    undecided = frozenset(
        ofport
        for ofport, port_id in pending.items()
        if port_id not in records or (port_id in unread and ofport not in moving)
    )
    reasons = {
        ofport: NO_OPTIONS if port_id in unread else _why_pending(port_id, records)
        for ofport, port_id in pending.items()
    }
    return HostPorts(served, pending, undecided, refused, reasons)


def _options(
    record: PortRecord, policy: OptionPolicy, others: Sequence[Level], usual: EffectiveOptions
) -> EffectiveOptions:
    """The options of a port: `others` are the levels before its tags, `usual` those without any."""
    if not record.tags and not others:
        return usual
    own = level_of_tags(f"port {record.port_id}, by its tag", record.tags)
    return resolve(policy, [*others, own])


def _is_nobodys(interface: Interface, records: Records) -> bool:
    """Whether an interface has neither a record nor vm-uuid.

    The taps of OVN's metadata agent and of Neutron's DHCP agent have the iface-id of a port, too.
    """
    port_id = interface.port_id
    return (
        not interface.vm_uuid
        and port_id is not None
        and port_id in records
        and records[port_id] is None
    )


def _why_pending(port_id: str, records: Records) -> str:
    if port_id not in records:
        return "its record has not been read yet"
    match records[port_id]:
        case None:
            return "there is no record of it"
        case PortRecord():
            return "its OpenFlow number is about to change"
        case BoundElsewhere():
            return "OVN has bound it to another chassis"
        case _:
            return "its record cannot be used"


def may_be_served(record: PortRecord) -> bool:
    """Whether a record is that of an instance's port which Neutron lets have traffic.

    The bridge's other flows would not stop a disabled port's requests, since ours come first.
    """
    return record.device_owner.startswith(COMPUTE) and record.admin_state_up


def is_instances(record: PortState) -> bool:
    """Whether a record is that of an instance's port, or of a sub-port of one."""
    return isinstance(record, PortRecord) and (
        record.device_owner.startswith(COMPUTE) or record.device_owner == SUBPORT
    )


def with_instances(records: Records, followed: Collection[str | None]) -> Records:
    """The records; those of sub-ports with the instance and the project of their parent port.

    A sub-port has no record (None) if its parent is not an instance's port on this host. It is
    absent until the store has reported a followed parent.
    """
    subports = {
        port_id: state
        for port_id, state in records.items()
        if isinstance(state, PortRecord) and state.device_owner == SUBPORT
    }
    if not subports:
        return records
    found = dict(records)
    for port_id, subport in subports.items():
        parent = records.get(subport.device_id)
        if isinstance(parent, PortRecord) and parent.device_owner.startswith(COMPUTE):
            found[port_id] = replace(
                subport,
                device_id=parent.device_id,
                project_id=parent.project_id,
                device_owner=parent.device_owner,
            )
        elif subport.device_id in records or subport.device_id not in followed:
            found[port_id] = None
        else:
            del found[port_id]
    return found


def _being_renumbered(interfaces: Iterable[Interface]) -> set[int]:
    """The ofports of interfaces that ovs-vswitchd is about to give another number.

    An interface whose ofport differs from its request gets the requested one, and the holder of
    that gets another, unless it requests the same (bridge.c). Until OVSDB shows the change, it
    attributes the ofports to the wrong ports. So neither ofport has an identity meanwhile.
    """
    holders = {each.ofport: each for each in interfaces}
    moving: set[int] = set()
    for interface in interfaces:
        ofport, request = interface.ofport, interface.ofport_request
        if ofport is None or request is None or ofport == request:
            continue
        holder = holders.get(request)
        if holder is None or holder.ofport_request != request:
            moving |= {ofport, request}
    return moving
