"""Which ports are served: the join of the bridge's interfaces and the store's port records.

Pure functions on values. Both the flow controller and the agent decide by `join_ports`, each
from its own view of OVSDB and the store. `incremental_join` has the same result sooner.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from uuid import UUID

from ovs_metadata.host.address import ofport_at, place_of, why_unservable
from ovs_metadata.host.option_documents import NO_DOCUMENTS, OptionDocuments
from ovs_metadata.host.shared_map import SharedMap
from ovs_metadata.host.trunks import with_instances, with_sub_ports
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
    `attached_mac` is the MAC of the instance's device, according to Nova. `vlan` is that of a
    sub-port behind the interface, 0 for the interface itself.
    """

    name: str
    ofport: int | None = None
    iface_id: str | None = None
    vm_uuid: str | None = None
    tag: int | None = None
    ofport_request: int | None = None
    attached_mac: str | None = None
    vlan: int = 0
    port_id: str | None = field(init=False)
    """The Neutron port that `iface_id` names, in canonical form; None when it names none."""

    def __post_init__(self) -> None:
        """Read `iface_id` once, not at each change of any port."""
        object.__setattr__(self, "port_id", _canonical_uuid(self.iface_id or ""))

    @property
    def place(self) -> int | None:
        """Where the port's frames come in (host/address.py), if it has an ofport."""
        ofport = self.ofport
        return place_of(ofport, self.vlan) if ofport and ofport > 0 else ofport

    @property
    def title(self) -> str:
        """Its name for operators."""
        return f"{self.name} VLAN {self.vlan}" if self.vlan else self.name


def by_name(interfaces: Iterable[Interface]) -> SharedMap[str, Interface]:
    """The interfaces of a bridge, which all have different names."""
    return SharedMap({each.name: each for each in interfaces})


@dataclass(frozen=True, slots=True)
class ServedPort:
    """An instance's port on this bridge: where it is, and what the store knows of it."""

    ofport: int
    interface: str
    record: PortRecord
    vm_uuid: str | None = None
    options: EffectiveOptions = DEFAULT_OPTIONS
    vlan: int = 0

    @property
    def place(self) -> int:
        """Where its frames come in, see host/address.py."""
        return place_of(self.ofport, self.vlan)

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

    served: by place. pending: port ID by place, for interfaces whose record is not there yet
    (missing, or malformed), whose port is bound to another chassis, and for those that are about to
    get another number. undecided: the pending places whose record has not been reported yet, or
    whose options.
    refused: the reason, by interface title. pending_reasons: why a port is pending, by place.
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
    # So that of two interfaces with one number always the same one gets it.
    interfaces = sorted(interfaces, key=attrgetter("name"))
    moving = _being_renumbered(interfaces)
    interfaces = with_sub_ports(interfaces, records)
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
            refused[interface.title] = (
                f"external_ids:iface-id {interface.iface_id!r} is not a port UUID"
            )
            continue
        record = records.get(port_id)
        if isinstance(record, PortRecord) and not may_be_served(record):
            continue
        if claims[port_id] > 1:
            refused[interface.title] = (
                f"{claims[port_id]} interfaces claim port {port_id}: none of them is served "
                "until only one does"
            )
        elif interface.ofport is not None and interface.tag != DEAD_VLAN:
            place = place_of(interface.ofport, interface.vlan)
            reason = why_unservable(interface.ofport)
            if reason:
                refused[interface.title] = reason
            elif (
                isinstance(record, PortRecord)
                and interface.ofport not in moving
                and (others := levels[port_id]) is not None
            ):
                served[place] = ServedPort(
                    interface.ofport,
                    interface.name,
                    record,
                    interface.vm_uuid,
                    _options(record, policy, others, usual),
                    interface.vlan,
                )
            else:
                pending[place] = port_id
    unread = {port_id for port_id, others in levels.items() if others is None}
    undecided = frozenset(
        place
        for place, port_id in pending.items()
        if port_id not in records or (port_id in unread and ofport_at(place) not in moving)
    )
    reasons = {
        place: NO_OPTIONS if port_id in unread else _why_pending(port_id, records)
        for place, port_id in pending.items()
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
