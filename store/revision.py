"""Compare-and-set on revision numbers: decides what a write does to a port's node. Pure functions.

A delete as of a revision leaves a tombstone: a document with the revision up to which the port is
deleted. Without it, a late update of another API worker would restore a deleted port. `Store.sweep`
removes tombstones that are too old for any late update.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Protocol, Union

from ovs_metadata.store.errors import MalformedRecord
from ovs_metadata.store.record import MAX_DOCUMENT, MAX_REVISION, PortRecord
from ovs_metadata.untrusted import UnreadableJson, parse_json


@dataclass(frozen=True)
class Tombstone:
    """The port is deleted, and updates up to this revision are too late."""

    revision_number: int

    def to_json(self) -> bytes:
        """The document that replaces the record."""
        document = {"deleted": True, "revision_number": self.revision_number}
        return json.dumps(document, sort_keys=True).encode("ascii")


Stored = Union[PortRecord, MalformedRecord, Tombstone, None]
"""The content of a port's node; None: there is no node."""


class Revised(Protocol):
    """What has a revision of Neutron's."""

    @property
    def revision_number(self) -> int:
        """It rises with every change."""


class PutOutcome(Enum):
    """The result of a write."""

    WRITE = auto()
    SAME = auto()
    """The store holds exactly this record already."""
    OUTDATED = auto()
    """The store holds a record that wins."""


def stored(port_id: str, data: bytes | None) -> Stored:
    """What the content of a port's node is; `data` is None if there is no node."""
    if data is None:
        return None
    try:
        return PortRecord.from_json(port_id, data)
    except MalformedRecord as malformed:
        return _tombstone(data) or malformed


def outcome_of_put(
    stored: Revised | MalformedRecord | None, record: Revised, *, force: bool
) -> PutOutcome:
    """The result of putting `record`.

    Neutron raises the revision with every change of a resource, so the higher one wins. Of two
    different records with the same revision the stored one wins, and so does a stored tombstone. A
    port enters and leaves a trunk without a change of the parent's revision: of two records that
    differ in `sub_ports` alone, the new one wins. A malformed record loses. With `force` the new
    record wins always.
    """
    if stored == record:
        return PutOutcome.SAME
    if force or stored is None or isinstance(stored, MalformedRecord):
        return PutOutcome.WRITE
    if record.revision_number > stored.revision_number:
        return PutOutcome.WRITE
    if (
        isinstance(stored, PortRecord)
        and isinstance(record, PortRecord)
        and record == replace(stored, sub_ports=record.sub_ports)
    ):
        return PutOutcome.WRITE
    return PutOutcome.OUTDATED


def outcome_of_undelete(stored: Stored, record: PortRecord) -> PutOutcome:
    """The result of putting `record`, whose port was removed by mistake.

    It overrides a tombstone, but not that of a deletion, which has MAX_REVISION.
    """
    if isinstance(stored, Tombstone) and stored.revision_number < MAX_REVISION:
        return PutOutcome.WRITE
    return outcome_of_put(stored, record, force=False)


@dataclass(frozen=True)
class DeleteOutcome:
    """The outcome of a delete.

    remove: delete the node. leave: or write this tombstone. deleted: whether a record was there and
    is gone. With neither `remove` nor `leave` the node stays as it is.
    """

    remove: bool = False
    leave: Tombstone | None = None
    deleted: bool = False


def outcome_of_delete(stored: Stored, revision_number: int | None) -> DeleteOutcome:
    """The result of deleting the port as of a revision.

    None is an operator's delete: it removes the record, leaves no tombstone, and does not touch
    one. A record newer than `revision_number` stays.
    """
    is_record = isinstance(stored, (PortRecord, MalformedRecord))
    if revision_number is None:
        return DeleteOutcome(remove=is_record, deleted=is_record)
    if isinstance(stored, (PortRecord, Tombstone)):
        newer = stored.revision_number > revision_number
        if newer or stored == Tombstone(revision_number):
            return DeleteOutcome()
    return DeleteOutcome(leave=Tombstone(revision_number), deleted=is_record)


def _tombstone(data: bytes) -> Tombstone | None:
    try:
        document = parse_json(data, MAX_DOCUMENT)
    except UnreadableJson:
        return None
    if not isinstance(document, dict) or document.get("deleted") is not True:
        return None
    revision = document.get("revision_number")
    if type(revision) is not int or not 0 <= revision <= MAX_REVISION:
        return None
    return Tombstone(revision)
