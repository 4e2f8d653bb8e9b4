"""Updates all port records, and networks' options, from Neutron.

For one command, and for the reconciliation.

It can write several records at once, over threads that end with the function. It keeps nothing
between two runs: the next run completes an interrupted one, and finds less to do.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from ovs_metadata.publisher.comparison import (
    Action,
    Difference,
    PortSource,
    apply,
    compare,
    refused_by_mistake,
)
from ovs_metadata.publisher.networks import NetworkSource, synchronise_networks
from ovs_metadata.store.store import Store

WRITERS = 8
BATCH = 256
"""Writes under way, at most."""

FEW_REMOVALS = 5
"""So few removals never look like a mistake: of few records they soon are most."""


@dataclass
class SyncResult:
    """The result of a run.

    ports: count by action, of a dry run too; removals also if they were refused as too many.
    refused: ports for which the store has something newer. withheld: removals of ports that the
    reconciliation leaves to an operator. networks: count by action, of those that
    have a document or should have one.
    """

    ports: Counter[Action] = field(default_factory=Counter)
    refused: int = 0
    withheld: int = 0
    networks: Counter[Action] = field(default_factory=Counter)

    @property
    def differences(self) -> int:
        """The number of ports and networks with something to do."""
        some = (Action.ADD, Action.UPDATE, Action.REMOVE)
        return sum(self.ports[action] + self.networks[action] for action in some)


class Source(PortSource, NetworkSource, Protocol):
    """Where Neutron is read."""


class TooManyRemovals(Exception):
    """The run would remove most records, which looks like a mistake; all else is done."""

    def __init__(self, result: SyncResult, removals: int, records: int) -> None:
        self.result = result
        self.removals = removals
        self.records = records
        super().__init__(
            f"{removals} of {records} records have no compute port in Neutron, and the command "
            "removed none of them: is this the right Neutron, are the credentials an "
            "administrator's? To remove them, give --force"
        )


def synchronise(
    source: Source,
    store: Store,
    *,
    dry_run: bool,
    force: bool,
    on_difference: Callable[[Difference], None],
    may_remove: Callable[[], bool] = lambda: True,
    stopped: Callable[[], bool] = lambda: False,
    writers: int = WRITERS,
) -> SyncResult:
    """Compare, then add, update and remove records; removals after the whole comparison.

    The documents of networks come last, if the removals of records are no mistake.

    If the store refuses an addition, the port is looked up in Neutron again. If it still exists,
    and was not deleted in between, the addition is forced.

    Args:
        source: Neutron's ports and networks.
        store: the records and documents.
        dry_run: change nothing.
        force: remove any number of records, and overwrite records that are newer than Neutron's
            ports.
        on_difference: called with each difference, as it comes.
        may_remove: called after the comparison: whether the source shows every port.
        stopped: called now and then; once it returns True the run ends, without removals.
        writers: number of writes at once; one needs no thread.

    Raises:
        StoreError: the store cannot be read or written.
        TooManyRemovals: the run would remove most records, or any although it may not.
    """
    result = SyncResult()
    removals: list[Difference] = []
    records = 0

    def found() -> Iterator[Difference]:
        nonlocal records
        for compared in compare(source, store):
            if stopped():
                return
            difference = compared
            if force and difference.action is Action.LEAVE:
                difference = replace(difference, action=Action.UPDATE, force=True)
            records += difference.action is not Action.ADD
            on_difference(difference)
            if difference.action is Action.REMOVE:
                removals.append(difference)
            elif difference.action in {Action.ADD, Action.UPDATE}:
                yield difference
            else:
                result.ports[difference.action] += 1

    def write(differences: Iterable[Difference]) -> list[Difference]:
        """Apply and count them; returns those that the store refused."""
        refused = []
        for difference, taken in _applied(store, differences, writers=0 if dry_run else writers):
            if taken:
                result.ports[difference.action] += 1
            else:
                refused.append(difference)
        return refused

    refused = write(found())
    again = list(refused_by_mistake(source, [f for f in refused if f.action is Action.ADD]))
    if force:
        # Even a deletion is overridden: Neutron's database may have been restored.
        again = [replace(difference, action=Action.UPDATE) for difference in again]
    result.refused = len(refused) - len(again) + len(write(again))
    if stopped():
        return result
    if removals and not force and (are_most(len(removals), records) or not may_remove()):
        result.ports[Action.REMOVE] = len(removals)
        raise TooManyRemovals(result, len(removals), records)
    result.refused += len(write(itertools.takewhile(lambda _: not stopped(), removals)))
    result.networks = synchronise_networks(
        source, store, dry_run=dry_run, force=force, may_remove=may_remove, stopped=stopped
    )
    return result


def are_most(removals: int, records: int) -> bool:
    """Whether so many removals look like a mistake: more than half of the records, and not few."""
    return removals > FEW_REMOVALS and 2 * removals > records


def _applied(
    store: Store, differences: Iterable[Difference], writers: int
) -> Iterator[tuple[Difference, bool]]:
    """Apply the differences; whether the store accepted each. Without writers: a dry run."""
    if writers < 2:
        for difference in differences:
            yield difference, not writers or apply(store, difference)
        return
    iterator = iter(differences)
    with ThreadPoolExecutor(writers) as pool:
        while batch := list(itertools.islice(iterator, BATCH)):
            yield from zip(batch, pool.map(partial(apply, store), batch))
