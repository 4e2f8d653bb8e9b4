"""Brings all port records to what Neutron says, by one command.

Writes go out several at once, over a few threads that end with the function. Nothing has to be
remembered between two runs: one that was interrupted is continued by the next, which finds less to
do.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from ovs_metadata.publisher.comparison import Action, Finding, Source, apply, compare
from ovs_metadata.store.interface import Store

WRITERS = 8
BATCH = 256
"""Writes under way, at most."""


@dataclass(slots=True)
class Outcome:
    """What a run came to: ports per action, and those the store refused for something newer."""

    ports: Counter[Action] = field(default_factory=Counter)
    refused: int = 0

    @property
    def differences(self) -> int:
        """How many ports there was something to do about."""
        return sum(self.ports[action] for action in (Action.ADD, Action.UPDATE, Action.REMOVE))


class TooManyRemovals(Exception):
    """Most records would go, which looks like a mistake; everything else has been done."""

    def __init__(self, outcome: Outcome, removals: int, records: int) -> None:
        self.outcome = outcome
        super().__init__(
            f"{removals} of {records} records have no compute port in Neutron, and none of them "
            "was removed: is this the right Neutron, are the credentials an administrator's? If "
            "they are to go, give --force"
        )


def synchronise(
    source: Source,
    store: Store,
    *,
    dry_run: bool,
    force: bool,
    told: Callable[[Finding], None],
    may_remove: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Compare, and add, update and remove what differs; removals last, when all is known.

    Args:
        source: Neutron's ports.
        store: the records.
        dry_run: change nothing.
        force: remove whatever is to be removed, however many they are, and overwrite records that
            are newer than Neutron's ports.
        told: each finding, as it comes.
        may_remove: asked after everything was compared, whether a missing port is really missing.

    Raises:
        StoreError: the store cannot be read or written.
        TooManyRemovals: more than half of the records, or any if they may not be, would be removed.
    """
    outcome = Outcome()
    removals: list[Finding] = []

    def found() -> Iterator[Finding]:
        for compared in compare(source, store):
            finding = compared
            if force and finding.action is Action.LEAVE:
                finding = replace(finding, action=Action.UPDATE, force=True)
            outcome.ports[finding.action] += 1
            told(finding)
            if finding.action is Action.REMOVE:
                removals.append(finding)
            elif finding.action in {Action.ADD, Action.UPDATE}:
                yield finding

    outcome.refused += _apply_all(store, found(), dry_run=dry_run)
    counts = outcome.ports
    records = counts.total() - counts[Action.ADD]
    if removals and not force and (2 * len(removals) > records or not may_remove()):
        raise TooManyRemovals(outcome, len(removals), records)
    outcome.refused += _apply_all(store, removals, dry_run=dry_run)
    return outcome


def _apply_all(store: Store, findings: Iterable[Finding], *, dry_run: bool) -> int:
    """Do what the findings say; how many the store refused."""
    refused = 0
    iterator = iter(findings)
    with ThreadPoolExecutor(WRITERS) as pool:
        while batch := list(itertools.islice(iterator, BATCH)):
            if not dry_run:
                refused += sum(not taken for taken in pool.map(partial(apply, store), batch))
    return refused
