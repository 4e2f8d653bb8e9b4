"""Which record stays."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from contracts.store_support import record
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.store.errors import MalformedRecord
from ovs_metadata.store.record import MAX_REVISION, SubPort
from ovs_metadata.store.revision import (
    DeleteOutcome,
    PutOutcome,
    Stored,
    Tombstone,
    outcome_of_delete,
    outcome_of_put,
    outcome_of_undelete,
    stored,
)

OTHER = record(revision=2, instance=9)
SUB_PORTS = (SubPort(42, record(2).port_id),)
BAD = MalformedRecord(record().port_id, "nonsense")


@pytest.mark.parametrize(
    ("stored", "outcome", "forced"),
    [
        (None, PutOutcome.WRITE, PutOutcome.WRITE),
        (BAD, PutOutcome.WRITE, PutOutcome.WRITE),
        (replace(OTHER, revision_number=1), PutOutcome.WRITE, PutOutcome.WRITE),
        (OTHER, PutOutcome.OUTDATED, PutOutcome.WRITE),
        (replace(OTHER, revision_number=3), PutOutcome.OUTDATED, PutOutcome.WRITE),
        (record(revision=3), PutOutcome.OUTDATED, PutOutcome.WRITE),
        (record(revision=2), PutOutcome.SAME, PutOutcome.SAME),
        # A trunk's ports change without a change of their parent's revision.
        (replace(record(revision=2), sub_ports=SUB_PORTS), PutOutcome.WRITE, PutOutcome.WRITE),
        (replace(record(revision=3), sub_ports=SUB_PORTS), PutOutcome.OUTDATED, PutOutcome.WRITE),
        (replace(OTHER, sub_ports=SUB_PORTS), PutOutcome.OUTDATED, PutOutcome.WRITE),
        (Tombstone(1), PutOutcome.WRITE, PutOutcome.WRITE),
        (Tombstone(2), PutOutcome.OUTDATED, PutOutcome.WRITE),
        (Tombstone(3), PutOutcome.OUTDATED, PutOutcome.WRITE),
    ],
)
def test_putting_revision_two(stored: Stored, outcome: PutOutcome, forced: PutOutcome) -> None:
    assert outcome_of_put(stored, record(revision=2), force=False) is outcome
    assert outcome_of_put(stored, record(revision=2), force=True) is forced


@pytest.mark.parametrize(
    ("stored", "outcome"),
    [
        (None, PutOutcome.WRITE),
        (BAD, PutOutcome.WRITE),
        (Tombstone(1), PutOutcome.WRITE),
        (Tombstone(2), PutOutcome.WRITE),
        (Tombstone(3), PutOutcome.WRITE),
        (Tombstone(MAX_REVISION), PutOutcome.OUTDATED),
        (record(revision=2), PutOutcome.SAME),
        (OTHER, PutOutcome.OUTDATED),
        (record(revision=3), PutOutcome.OUTDATED),
    ],
)
def test_undeleting_revision_two(stored: Stored, outcome: PutOutcome) -> None:
    assert outcome_of_undelete(stored, record(revision=2)) is outcome


@pytest.mark.parametrize(
    ("stored", "revision", "outcome"),
    [
        (None, None, DeleteOutcome()),
        (BAD, None, DeleteOutcome(remove=True, deleted=True)),
        (record(revision=2), None, DeleteOutcome(remove=True, deleted=True)),
        (Tombstone(2), None, DeleteOutcome()),
        (None, 5, DeleteOutcome(leave=Tombstone(5))),
        (BAD, 0, DeleteOutcome(leave=Tombstone(0), deleted=True)),
        (record(revision=2), 3, DeleteOutcome(leave=Tombstone(3), deleted=True)),
        (record(revision=2), 2, DeleteOutcome(leave=Tombstone(2), deleted=True)),
        (record(revision=2), 1, DeleteOutcome()),
        (Tombstone(2), 1, DeleteOutcome()),
        (Tombstone(2), 2, DeleteOutcome()),
        (Tombstone(2), 3, DeleteOutcome(leave=Tombstone(3))),
    ],
)
def test_deleting(stored: Stored, revision: int | None, outcome: DeleteOutcome) -> None:
    assert outcome_of_delete(stored, revision) == outcome


def test_a_record_and_a_tombstone_read_as_they_were_written() -> None:
    for state in (record(), Tombstone(0), Tombstone(2**63 - 1)):
        assert stored(record().port_id, state.to_json()) == state
    assert stored(record().port_id, None) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 5000,
        b'{"deleted": true}',
        b'{"deleted": 1, "revision_number": 1}',
        b'{"deleted": true, "revision_number": true}',
        b'{"deleted": true, "revision_number": -1}',
        b'{"deleted": true, "revision_number": 9223372036854775808}',
        b'{"deleted": true, "revision_number": "1"}',
    ],
)
def test_what_is_no_tombstone_is_malformed(data: bytes) -> None:
    assert isinstance(stored(record().port_id, data), MalformedRecord)


EVENTS = st.lists(st.tuples(st.booleans(), st.integers(min_value=0, max_value=6)), max_size=12)


@given(EVENTS, st.randoms(use_true_random=False))
def test_in_whatever_order_puts_and_deletes_arrive_the_newest_counts(
    events: list[tuple[bool, int]], random: Random
) -> None:
    # Neutron's revisions: one state of the port each, and a delete is the last word of its own.
    deleted = {revision: delete for delete, revision in events}
    arriving = list(deleted.items())
    random.shuffle(arriving)
    state: Stored = None
    for revision, delete in arriving:
        if delete:
            state = outcome_of_delete(state, revision).leave or state
        elif outcome_of_put(state, record(revision=revision), force=False) is PutOutcome.WRITE:
            state = record(revision=revision)
    last = max(deleted, default=None)
    if last is None:
        assert state is None
    else:
        assert state == (Tombstone(last) if deleted[last] else record(revision=last))
