"""Compare-and-set on revision numbers: what becomes of a port's node. Pure functions.

A delete as of a revision leaves a tombstone: a document that says up to which revision the port is
gone. Without it, an update that another API worker is late with would bring a deleted port back.
Tombstones are swept once nothing can be that late any more (`Store.sweep`).
"""

import json
from dataclasses import dataclass
from enum import Enum, auto

from ovs_metadata.store.errors import MalformedRecord
from ovs_metadata.store.record import MAX_DOCUMENT, MAX_REVISION, PortRecord
from ovs_metadata.untrusted import UnreadableJson, parse_json


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The port is deleted, and updates up to this revision come too late."""

    revision_number: int

    def to_json(self) -> bytes:
        """The document that stands in the record's place."""
        document = {"deleted": True, "revision_number": self.revision_number}
        return json.dumps(document, sort_keys=True).encode("ascii")


Stored = PortRecord | MalformedRecord | Tombstone | None
"""What is found where a port's record belongs; None is nothing."""


class PutOutcome(Enum):
    """What a write comes to."""

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


def outcome_of_put(stored: Stored, record: PortRecord, *, force: bool) -> PutOutcome:
    """What putting `record` comes to.

    Neutron raises the revision with every change of a port, so the higher revision wins, and of
    two different records with the same revision the one already there; a tombstone likewise.
    Whatever is malformed loses. `force` makes `record` win always.
    """
    if stored == record:
        return PutOutcome.SAME
    if force or not isinstance(stored, PortRecord | Tombstone):
        return PutOutcome.WRITE
    if record.revision_number > stored.revision_number:
        return PutOutcome.WRITE
    return PutOutcome.OUTDATED


def outcome_of_undelete(stored: Stored, record: PortRecord) -> PutOutcome:
    """What putting `record` comes to if its port turned out to be there although it was removed.

    A tombstone does not count, then, unless it is that of a deletion: that one has MAX_REVISION.
    """
    if isinstance(stored, Tombstone) and stored.revision_number < MAX_REVISION:
        return PutOutcome.WRITE
    return outcome_of_put(stored, record, force=False)


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a delete comes to.

    remove: the node goes. leave: or this is written in its place. deleted: whether a record was
    there and is not any more. With neither `remove` nor `leave` everything stays as it is.
    """

    remove: bool = False
    leave: Tombstone | None = None
    deleted: bool = False


def outcome_of_delete(stored: Stored, revision_number: int | None) -> Deletion:
    """What deleting the port as of a revision comes to.

    None means now and for good: an operator's delete, which leaves no tombstone, and none that is
    there untouched. A record newer than `revision_number` stays.
    """
    is_record = isinstance(stored, PortRecord | MalformedRecord)
    if revision_number is None:
        return Deletion(remove=is_record, deleted=is_record)
    if isinstance(stored, PortRecord | Tombstone):
        newer = stored.revision_number > revision_number
        if newer or stored == Tombstone(revision_number):
            return Deletion()
    return Deletion(leave=Tombstone(revision_number), deleted=is_record)


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
