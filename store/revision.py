"""Compare-and-set on revision numbers: which of two records of a port stays. Pure functions."""

from enum import Enum, auto

from ovs_metadata.store.errors import MalformedRecord
from ovs_metadata.store.record import PortRecord

Stored = PortRecord | MalformedRecord | None
"""What is found where a port's record belongs; None is nothing."""


class Outcome(Enum):
    """What a write comes to."""

    WRITE = auto()
    SAME = auto()
    """The store holds exactly this record already."""
    OUTDATED = auto()
    """The store holds a record that wins."""


def outcome_of_put(stored: Stored, record: PortRecord, *, force: bool) -> Outcome:
    """What putting `record` comes to.

    Neutron raises the revision with every change of a port, so the higher revision wins, and of
    two different records with the same revision the one already there. Whatever is malformed
    loses. `force` makes `record` win always.
    """
    if stored == record:
        return Outcome.SAME
    if force or not isinstance(stored, PortRecord):
        return Outcome.WRITE
    if record.revision_number > stored.revision_number:
        return Outcome.WRITE
    return Outcome.OUTDATED


def may_delete(stored: Stored, revision_number: int | None) -> bool:
    """Whether a delete of the port as of `revision_number` (None: now) removes what is stored."""
    if stored is None:
        return False
    if revision_number is None or isinstance(stored, MalformedRecord):
        return True
    return stored.revision_number <= revision_number
