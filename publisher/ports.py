"""From a Neutron port to the record that the store should hold. Values only: no I/O, no threads.

A port here is a mapping with Neutron's field names (networking API v2, resource "port"): the API's
answer, or the dictionary a core plugin hands to its callbacks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovs_metadata.store.record import (
    COMPUTE,
    MAX_REVISION,
    MAX_SUB_PORTS,
    MAX_TAGS,
    SUBPORT,
    MalformedRecord,
    PortRecord,
    SubPort,
    is_option_tag,
)

LOG = logging.getLogger(__name__)

Port = Mapping[str, Any]

FIELDS = (
    "id",
    "project_id",
    "tenant_id",  # its name between the plugins of Neutron 2023.1
    "device_id",
    "device_owner",
    "mac_address",
    "fixed_ips",
    "network_id",
    "revision_number",
    "admin_state_up",
    "tags",
    "trunk_details",
)
"""The fields to request from Neutron when it can return less than the whole port."""


@dataclass(frozen=True)
class Change:
    """What the store should hold of a port as of a revision: a record, or None."""

    port_id: str
    revision_number: int
    record: PortRecord | None

    @property
    def key(self) -> str:
        """What it is about."""
        return self.port_id

    def outdates(self, other: Any) -> bool:
        """Whether this is newer; of one revision, a change without a record is."""
        if self.revision_number == other.revision_number:
            return self.record is None or other.record is not None
        return bool(self.revision_number > other.revision_number)


def is_compute_port(port: Port) -> bool:
    """Whether the port belongs to an instance, which alone may have a record.

    A sub-port belongs to the instance of its trunk, if the caller knows that: see `of_trunk`.
    """
    owner = port.get("device_owner") or ""
    return (owner.startswith(COMPUTE) or owner == SUBPORT) and bool(port.get("device_id"))


def is_subport(port: Port) -> bool:
    """Whether the port is, or was until just now, in a trunk."""
    return port.get("device_owner") == SUBPORT


def of_trunk(port: Port, parents: Mapping[str, str]) -> Port:
    """The port, a sub-port with its trunk's parent port as device_id.

    The parent's record names the instance, which may change without a change of the sub-port, and
    the VLAN.

    Args:
        port: any port.
        parents: the parent port's id by that of a sub-port; of others it is in no trunk.
    """
    return {**port, "device_id": parents.get(port["id"], "")} if is_subport(port) else port


def record_of(port: Port) -> PortRecord:
    """The record of a compute port.

    Raises:
        MalformedRecord: a value is missing, or is nothing that a record may hold.
    """
    try:
        return PortRecord(
            port_id=port["id"],
            project_id=project_of(port),
            device_id=port["device_id"],
            device_owner=port["device_owner"],
            mac_address=port["mac_address"],
            fixed_ips=tuple(ip["ip_address"] for ip in port["fixed_ips"]),
            network_id=port["network_id"],
            revision_number=port["revision_number"],
            admin_state_up=port["admin_state_up"],
            tags=tuple(sorted(filter(is_option_tag, port.get("tags") or ())))[:MAX_TAGS],
            sub_ports=_sub_ports(port),
        )
    except KeyError as error:
        raise MalformedRecord(str(port.get("id")), f"Neutron's port has no {error}") from None
    except (AttributeError, TypeError):
        raise MalformedRecord(
            str(port.get("id")),
            "fixed_ips or trunk_details of Neutron's port is not as Neutron has it",
        ) from None


def project_of(document: Mapping[str, Any]) -> Any:
    """The project of a port or a network; KeyError if it names none.

    Between its plugins Neutron 2023.1 has it by its older name only.
    """
    if "project_id" not in document and "tenant_id" in document:
        return document["tenant_id"]
    return document["project_id"]


def _sub_ports(port: Port) -> tuple[SubPort, ...]:
    """Those of the trunk whose parent the port is (extension "trunk-details"), lowest VLANs first.

    Neutron knows no other segmentation than VLANs.
    """
    details = port.get("trunk_details") or {}
    found = (
        SubPort(each["segmentation_id"], each["port_id"]) for each in details.get("sub_ports", ())
    )
    return tuple(sorted(found)[:MAX_SUB_PORTS])


def change_of(port: Port) -> Change:
    """What the store should hold of a port that exists in Neutron.

    A port with unusable values gets no record, and a line in the log: its previous record would be
    out of date.

    Raises:
        MalformedRecord: it has no revision number, as when Neutron's plugin "revisions" is not
            loaded, or no id.
    """
    port_id, revision_number = port.get("id"), port.get("revision_number")
    if not isinstance(port_id, str) or not isinstance(revision_number, int):
        raise MalformedRecord(
            str(port_id),
            "Neutron's port has no revision_number: its service plugin `revisions` must be loaded",
        )
    record = None
    if is_compute_port(port):
        try:
            record = record_of(port)
        except MalformedRecord as malformed:
            LOG.warning("cannot publish a record: %s", malformed)
    return Change(port_id.lower(), revision_number, record)


def change_by_update(original: Port | None, port: Port) -> Change | None:
    """What the store should hold after a port was created (`original` is None) or updated.

    None: the port neither is nor was an instance's, so the store has no record of it.
    """
    if any(is_compute_port(each) or is_subport(each) for each in (port, original) if each):
        return change_of(port)
    return None


def change_by_deletion(port: Port) -> Change | None:
    """What the store should hold after a port was deleted: nothing, for good.

    Neutron never gives an id again, and an update may have been committed after the revision that
    the deletion knows of: so nothing that is still on its way may bring the record back.
    """
    if is_compute_port(port) or is_subport(port):
        return Change(port["id"].lower(), MAX_REVISION, None)
    return None
