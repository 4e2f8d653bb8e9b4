"""From a row of Port_Binding to a port record. Values only: no I/O, no threads.

The rows are what Neutron's ML2/OVN driver writes into `external_ids` of a logical switch port,
which ovn-northd copies. A binding also has a document, by which a snapshot keeps it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, Self

from netaddr import EUI, AddrFormatError

from ovs_metadata.store import layout
from ovs_metadata.store.interface import BoundElsewhere, MalformedRecord, PortState
from ovs_metadata.store.node_type import NodeType
from ovs_metadata.store.record import (
    COMPUTE,
    MAX_DOCUMENT,
    MAX_FIXED_IPS,
    SUBPORT,
    PortRecord,
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
    """

    external_ids: Mapping[str, str] = field(default_factory=dict)
    mac: tuple[str, ...] = ()
    parent_port: str = ""
    chassis: Chassis = ""
    disabled: bool = False

    def to_json(self) -> bytes:
        """The document."""
        return json.dumps(asdict(self), sort_keys=True).encode("ascii")

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a document; raises ValueError if it is not as `to_json` writes it."""
        match parse_json(data, MAX_DOCUMENT):
            case {
                "external_ids": dict() as external_ids,
                "mac": list() as mac,
                "parent_port": str() as parent_port,
                "chassis": ("" | "this" | "another") as chassis,
                "disabled": bool() as disabled,
            } if all(isinstance(each, str) for each in (*external_ids.values(), *mac)):
                return cls(external_ids, tuple(mac), parent_port, chassis, disabled)
        raise ValueError("it is not the document of a port binding")


def state_of(port_id: str, binding: PortBinding | None) -> PortState:
    """What is known of a port; None for one that has no binding, and for one of no instance's."""
    if binding is None:
        return None
    owner = binding.external_ids.get("device_owner")
    try:
        record = _record(port_id, binding)
    except (MalformedRecord, ValueError) as error:
        if owner is not None and not owner.startswith(COMPUTE) and owner != SUBPORT:
            return None  # other ports need not have all that a record has
        reason = error.reason if isinstance(error, MalformedRecord) else str(error)
        return MalformedRecord(port_id, reason)
    return BoundElsewhere(record) if binding.chassis == "another" else record


def _record(port_id: str, binding: PortBinding) -> PortRecord:
    def value(key: str) -> str:
        if key not in binding.external_ids:
            raise ValueError(f"Port_Binding has no external_ids:{NEUTRON}{key}")
        return binding.external_ids[key]

    owner = value("device_owner")
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
