"""From a row of Port_Binding to a port record. Values only: no I/O, no threads.

The rows are what Neutron's ML2/OVN driver writes into `external_ids` of a logical switch port,
which ovn-northd copies. A binding also has a document, by which a snapshot keeps it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, Self

from netaddr import EUI, AddrFormatError

from ovs_metadata.host.address import VLAN_MAX
from ovs_metadata.store import layout
from ovs_metadata.store.interface import BoundElsewhere, MalformedRecord, PortState
from ovs_metadata.store.node_type import NodeType
from ovs_metadata.store.record import (
    COMPUTE,
    MAX_DOCUMENT,
    MAX_FIXED_IPS,
    MAX_SUB_PORTS,
    SUBPORT,
    PortRecord,
    SubPort,
    is_port_id,
)
from ovs_metadata.untrusted import parse_json

Chassis = Literal["", "this", "another"]
"""Where OVN has bound a port; empty: nowhere."""

NEUTRON = "neutron:"
"""How Neutron's keys of external_ids begin."""

KEYS = (*("device_id", "project_id", "device_owner", "cidrs", "network_name", "revision_number"),)
"""The keys that a record is made of, without `NEUTRON`."""

NETWORK = "neutron-"
"""How the name of Neutron's logical switch begins; the network's UUID follows."""

_REVISION = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class PortBinding:
    """The parts that we need of a row of Port_Binding.

    external_ids: those of `KEYS`, without `NEUTRON`. mac: the column, in order. disabled: whether
    OVN drops what comes from the port, which Logical_Flow shows and Port_Binding does not.
    sub_ports: those whose parent it is, which their rows say.
    """

    external_ids: Mapping[str, str] = field(default_factory=dict)
    mac: tuple[str, ...] = ()
    parent_port: str = ""
    chassis: Chassis = ""
    disabled: bool = False
    sub_ports: tuple[SubPort, ...] = ()

    def to_json(self) -> bytes:
        """The document."""
        return json.dumps(asdict(self), sort_keys=True).encode("ascii")

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a document; raises ValueError if it is not as `to_json` writes it.

        Those of earlier releases have no sub-ports.
        """
        match {"sub_ports": [], **_object(data)}:
            case {
                "external_ids": dict() as external_ids,
                "mac": list() as mac,
                "parent_port": str() as parent_port,
                "chassis": ("" | "this" | "another") as chassis,
                "disabled": bool() as disabled,
                "sub_ports": list() as sub_ports,
            } if all(isinstance(each, str) for each in (*external_ids.values(), *mac)):
                ports = tuple(_sub_port(each) for each in sub_ports)
                return cls(external_ids, tuple(mac), parent_port, chassis, disabled, ports)
        raise ValueError("it is not the document of a port binding")


def _object(data: bytes) -> dict[str, object]:
    found = parse_json(data, MAX_DOCUMENT)
    return found if isinstance(found, dict) else {}


def _sub_port(value: object) -> SubPort:
    match value:
        case [int() as vlan, str() as port_id]:
            return SubPort(vlan, port_id)
    raise ValueError("it is not the document of a port binding")


def sub_ports_of(children: Iterable[tuple[int, str]]) -> tuple[SubPort, ...]:
    """The sub-ports of a port, of the tags and names of the rows that name it as their parent.

    Two rows have one tag while Neutron replaces a sub-port, and until it is done neither counts.
    """
    found = [SubPort(*each) for each in children if each[0] <= VLAN_MAX and is_port_id(each[1])]
    times = Counter(each.vlan for each in found)
    return tuple(sorted(each for each in found if times[each.vlan] == 1)[:MAX_SUB_PORTS])


def state_of(port_id: str, binding: PortBinding | None) -> PortState:
    """What is known of a port; None for one that has no binding, and for one of no instance's."""
    if binding is None:
        return None
    owner = _owner(binding)
    try:
        record = _record(port_id, binding)
    except (MalformedRecord, ValueError) as error:
        if owner is not None and not owner.startswith(COMPUTE) and owner != SUBPORT:
            return None  # other ports need not have all that a record has
        reason = error.reason if isinstance(error, MalformedRecord) else str(error)
        return MalformedRecord(port_id, reason)
    return BoundElsewhere(record) if binding.chassis == "another" else record


def _owner(binding: PortBinding) -> str | None:
    """Not every release of Neutron writes the owner again when a port becomes a sub-port."""
    return SUBPORT if binding.parent_port else binding.external_ids.get("device_owner")


def _record(port_id: str, binding: PortBinding) -> PortRecord:
    def value(key: str) -> str:
        if key not in binding.external_ids:
            raise ValueError(f"Port_Binding has no external_ids:{NEUTRON}{key}")
        return binding.external_ids[key]

    owner = _owner(binding) or value("device_owner")
    revision = binding.external_ids.get("revision_number", "0")
    if not _REVISION.fullmatch(revision):
        raise ValueError(f"external_ids:{NEUTRON}revision_number is no number: {revision[:40]!a}")
    cidrs = binding.external_ids.get("cidrs", "").split(maxsplit=MAX_FIXED_IPS)
    return PortRecord(
        port_id=port_id,
        project_id=value("project_id"),
        device_id=binding.parent_port if owner == SUBPORT else value("device_id"),
        device_owner=owner,
        mac_address=_mac(binding.mac),
        fixed_ips=tuple(cidr.partition("/")[0] for cidr in cidrs),
        network_id=value("network_name").removeprefix(NETWORK),
        revision_number=int(revision),
        admin_state_up=not binding.disabled,
        sub_ports=binding.sub_ports,
    )


def _mac(column: tuple[str, ...]) -> str:
    """The port's MAC: that which is followed by its addresses.

    A column may also have "unknown", and the MACs of allowed address pairs, without addresses.

    Raises:
        ValueError: there is none, or several may be meant.
    """
    entries = [entry.split() for entry in column]
    macs = [words for words in entries if words and _is_mac(words[0])]
    found = {words[0] for words in macs if len(words) > 1} or {words[0] for words in macs}
    if len(found) != 1:
        shown = ", ".join(column)[:60]
        raise ValueError(f"column mac of Port_Binding does not name one MAC address: {shown!a}")
    return found.pop()


def _is_mac(text: str) -> bool:
    try:
        EUI(text, version=48)
    except (AddrFormatError, ValueError):
        return False
    return True


def _state_of_document(port_id: str, data: bytes | None) -> tuple[PortState, object]:
    try:
        binding = None if data is None else PortBinding.from_json(data)
    except ValueError as error:
        state: PortState = MalformedRecord(port_id, str(error))
        return state, data
    return state_of(port_id, binding), binding


BINDINGS: NodeType[PortState] = NodeType(
    is_port_id,
    layout.port_path,
    lambda path: path.rpartition("/")[2],
    _state_of_document,
    absence_is_news=False,
)
"""Port bindings, by port id; a snapshot has them by the path of the port's record."""
