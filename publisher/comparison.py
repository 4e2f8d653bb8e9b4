"""Compares all of Neutron's ports with all port records, and says what to change. No threads.

Both sides come in order of port id and are merged as they come, so memory depends on a page of
ports and not on the deployment. Both may change meanwhile: a difference that a recent change may
explain is looked up again before it counts.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from operator import attrgetter
from typing import Protocol

from ovs_metadata.publisher.ports import Port, change_of, is_compute_port
from ovs_metadata.store.interface import MalformedRecord, StoredState
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

LOOKUP = 50
"""Ports or networks asked for at once by id: some 2 KB of an URL."""


content = attrgetter(
    *(field.name for field in fields(PortRecord) if field.name != "revision_number")
)
"""A record without its revision. Neutron also raises a port's revision for changes without an
event, and without an effect on these fields: of its bindings and security groups, for example."""


class PortSource(Protocol):
    """Where Neutron's ports are read. Its exceptions end the comparison."""

    def ports(self) -> Iterator[Port]:
        """All ports, in order of id."""

    def lookup(self, port_ids: Collection[str]) -> Mapping[str, Port]:
        """Those of these ports that exist, by id; LOOKUP at most are asked for."""


class Action(Enum):
    """What to do about a port."""

    NONE = "unchanged"
    ADD = "add"
    UPDATE = "update"
    REMOVE = "remove"
    LEAVE = "leave"
    """The store is newer than Neutron: an operator must decide."""


@dataclass(frozen=True)
class Difference:
    """The result of the comparison for one port.

    record: what the store should hold. stored: what it held. force: write although the store would
    keep its record: a second look at Neutron showed that the store is wrong. A forced ADD overrides
    a tombstone, but not that of a deletion.
    """

    action: Action
    port_id: str
    record: PortRecord | None = None
    stored: StoredState = None
    force: bool = False


def compare(source: PortSource, store: Store) -> Iterator[Difference]:
    """Compare everything: a difference for each compute port and each record, nearly in order.

    Raises:
        StoreError: the store cannot be read.
    """
    doubtful: list[Difference] = []
    for port_id, record, stored in _merge(_records(source), store.records()):
        difference = _judge(port_id, record, stored)
        if difference is not None:
            yield difference
            continue
        doubtful.append(Difference(Action.LEAVE, port_id, record, stored))
        if len(doubtful) == LOOKUP:
            yield from _second_look(source, store, doubtful)
            doubtful.clear()
    yield from _second_look(source, store, doubtful)


def apply(store: Store, difference: Difference) -> bool:
    """Write a difference to the store; whether the store accepted it.

    It refuses if it has something newer by now, and is right to.

    Raises:
        StoreError: the store cannot be reached or written.
    """
    if difference.action is Action.REMOVE:
        stored = difference.stored
        revision = stored.revision_number if isinstance(stored, PortRecord) else None
        return store.delete(difference.port_id, revision)
    if difference.record is None:
        return False
    if difference.action is Action.ADD and difference.force:
        return store.undelete(difference.record)
    return store.put(difference.record, force=difference.force)


def refused_by_mistake(source: PortSource, refused: Sequence[Difference]) -> Iterator[Difference]:
    """Of ports to add that the store refused, those that Neutron still has at a second look.

    An earlier run removed them although they exist. A forced ADD restores them.
    """
    for start in range(0, len(refused), LOOKUP):
        some = refused[start : start + LOOKUP]
        ports = source.lookup([difference.port_id for difference in some])
        for difference in some:
            port = ports.get(difference.port_id)
            record = change_of(port).record if port is not None else None
            if record is not None:
                yield replace(difference, record=record, force=True)


def _records(source: PortSource) -> Iterator[PortRecord]:
    """The records Neutron's compute ports should have, in order."""
    for port in source.ports():
        if is_compute_port(port):
            record = change_of(port).record
            if record is not None:
                yield record


def _merge(
    wanted: Iterator[PortRecord], stored: Iterator[tuple[str, PortRecord | MalformedRecord]]
) -> Iterator[tuple[str, PortRecord | None, StoredState]]:
    """Pair the records of each port, in order of ids."""
    record, entry = next(wanted, None), next(stored, None)
    while record is not None or entry is not None:
        if entry is None or (record is not None and record.port_id < entry[0]):
            assert record is not None  # noqa: S101 - for the type checker: the loop's condition
            yield record.port_id, record, None
            record = next(wanted, None)
        elif record is None or entry[0] < record.port_id:
            yield entry[0], None, entry[1]
            entry = next(stored, None)
        else:
            yield entry[0], record, entry[1]
            record, entry = next(wanted, None), next(stored, None)


def _judge(port_id: str, record: PortRecord | None, stored: StoredState) -> Difference | None:
    """The difference, if one look suffices; None if Neutron must be read again."""
    if record is None:
        # Created since Neutron was read?
        return None
    if stored is None:
        # A port deleted since has left a tombstone, which keeps the record out.
        return Difference(Action.ADD, port_id, record)
    if not isinstance(stored, MalformedRecord) and content(record) == content(stored):
        return Difference(Action.NONE, port_id, record, stored)
    if isinstance(stored, MalformedRecord) or record.revision_number > stored.revision_number:
        return Difference(Action.UPDATE, port_id, record, stored)
    # A newer record may come from a later change; two of one revision need a second look.
    return None


def _second_look(
    source: PortSource, store: Store, doubtful: list[Difference]
) -> Iterator[Difference]:
    """Read both sides again, Neutron last: a port is in Neutron before it has a record."""
    if not doubtful:
        return
    states = {difference.port_id: store.state(difference.port_id) for difference in doubtful}
    ports = source.lookup([difference.port_id for difference in doubtful])
    for difference in doubtful:
        port = ports.get(difference.port_id)
        record = change_of(port).record if port is not None else None
        yield _decide(difference.port_id, record, states[difference.port_id])


def _decide(port_id: str, record: PortRecord | None, stored: StoredState) -> Difference:
    if record is None:
        action = Action.NONE if stored is None else Action.REMOVE
        return Difference(action, port_id, None, stored)
    judged = _judge(port_id, record, stored)
    if judged is not None:
        return judged
    assert isinstance(stored, PortRecord)  # noqa: S101 - for the type checker: see `_judge`
    if record.revision_number == stored.revision_number:
        return Difference(Action.UPDATE, port_id, record, stored, force=True)
    LOG.warning(
        "the record of port %s has revision %s, and Neutron's port only %s: the record stays. If "
        "Neutron's database was restored, run: ovs-metadata port sync --from-neutron --force",
        port_id,
        stored.revision_number,
        record.revision_number,
    )
    return Difference(Action.LEAVE, port_id, record, stored)
