"""Which record stays."""

from dataclasses import replace

import pytest

from lab.store_support import record
from ovs_metadata.store.errors import MalformedRecord
from ovs_metadata.store.revision import Outcome, Stored, may_delete, outcome_of_put

OTHER = record(revision=2, instance=9)
BAD = MalformedRecord(record().port_id, "nonsense")


@pytest.mark.parametrize(
    ("stored", "outcome", "forced"),
    [
        (None, Outcome.WRITE, Outcome.WRITE),
        (BAD, Outcome.WRITE, Outcome.WRITE),
        (replace(OTHER, revision_number=1), Outcome.WRITE, Outcome.WRITE),
        (OTHER, Outcome.OUTDATED, Outcome.WRITE),
        (replace(OTHER, revision_number=3), Outcome.OUTDATED, Outcome.WRITE),
        (record(revision=3), Outcome.OUTDATED, Outcome.WRITE),
        (record(revision=2), Outcome.SAME, Outcome.SAME),
    ],
)
def test_putting_revision_two(stored: Stored, outcome: Outcome, forced: Outcome) -> None:
    assert outcome_of_put(stored, record(revision=2), force=False) is outcome
    assert outcome_of_put(stored, record(revision=2), force=True) is forced


@pytest.mark.parametrize(
    ("stored", "revision", "deleted"),
    [
        (None, None, False),
        (None, 5, False),
        (BAD, None, True),
        (BAD, 0, True),
        (record(revision=2), None, True),
        (record(revision=2), 3, True),
        (record(revision=2), 2, True),
        (record(revision=2), 1, False),
    ],
)
def test_deleting(stored: Stored, revision: int | None, deleted: bool) -> None:
    assert may_delete(stored, revision) is deleted
