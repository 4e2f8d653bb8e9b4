"""From Neutron's networks to the documents of their metadata options. No threads.

A network here is a mapping with Neutron's field names (networking API v2, resource "network"). Few
of a deployment's networks have tags that set options, and only these have a document.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ovs_metadata.publisher.comparison import LOOKUP, Action
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.record import MAX_REVISION, MAX_TAGS, is_option_tag
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

Network = Mapping[str, Any]

FIELDS = ("id", "project_id", "tenant_id", "revision_number", "tags")
"""The fields to request from Neutron."""


class NetworkSource(Protocol):
    """Where Neutron's networks are read. Its exceptions end the comparison."""

    def networks(self) -> Iterator[Network]:
        """All networks, in order of id."""

    def lookup_networks(self, network_ids: Collection[str]) -> Mapping[str, Network]:
        """Those of these networks that exist, by id; LOOKUP at most are asked for."""


@dataclass(frozen=True)
class NetworkChange:
    """What the store should hold of a network as of a revision."""

    network: NetworkOptions

    @property
    def key(self) -> str:
        """What it is about: differs from that of any port."""
        return f"network {self.network.network_id}"

    def outdates(self, other: Any) -> bool:
        """Whether this is as new as another change of the network."""
        return bool(self.network.revision_number >= other.network.revision_number)


def options_of(network: Network) -> NetworkOptions:
    """The options of a network that exists.

    Raises:
        StoreError: it has no revision number, as when Neutron's plugin "revisions" is not loaded,
            or no id.
    """
    network_id, revision = str(network.get("id")), network.get("revision_number")
    try:
        if not isinstance(revision, int):
            raise ValueError(  # noqa: TRY004, TRY301 - one error for all faults of Neutron's
                "no revision_number: its service plugin `revisions` must be loaded"
            )
        project_id = network.get("project_id") or network.get("tenant_id") or ""
        return NetworkOptions(network_id.lower(), str(project_id), _tags(network), revision)
    except ValueError as error:
        raise StoreError(f"Neutron's network {network_id[:60]!a} has {error}") from None


def change_by_deletion(network: Network) -> NetworkChange | None:
    """What the store should hold after a network was deleted; None: it has nothing of it."""
    return NetworkChange(_deleted(network["id"].lower())) if _tags(network) else None


def synchronise_networks(
    source: NetworkSource,
    store: Store,
    *,
    dry_run: bool,
    force: bool,
    may_remove: Callable[[], bool],
    stopped: Callable[[], bool],
) -> Counter[Action]:
    """Compare all networks with their documents, and write those that differ.

    Args:
        source: Neutron's networks.
        store: the documents.
        dry_run: change nothing.
        force: also replace documents that are newer than Neutron's network.
        may_remove: called after the comparison: whether the source shows every network.
        stopped: called now and then; once it returns True the run ends.

    Returns:
        The number of networks by what was done, or would be.

    Raises:
        StoreError: the store cannot be read or written.
    """
    stored = dict(store.networks())
    done: Counter[Action] = Counter()
    doubtful: list[str] = []
    unseen = {network_id for network_id, found in stored.items() if not found or found.tags}
    for network in source.networks():
        if stopped():
            return done
        network_id = network["id"].lower()
        unseen.discard(network_id)
        if network_id not in stored and not _tags(network):
            continue
        found = stored.get(network_id)
        if found is not None and options_of(network).says_as(found):
            done[Action.NONE] += 1
        else:
            doubtful.append(network_id)
    if may_remove():
        doubtful += sorted(unseen)
    for start in range(0, len(doubtful), LOOKUP):
        if stopped():
            return done
        for options, found in _second_look(source, store, doubtful[start : start + LOOKUP]):
            action, override = _decide(options, found)
            if action is Action.LEAVE and force:
                action, override = Action.UPDATE, True
            done[action] += 1
            if not dry_run and action not in {Action.NONE, Action.LEAVE}:
                store.put_network(options, force=override)
    return done


def _second_look(
    source: NetworkSource, store: Store, network_ids: Collection[str]
) -> list[tuple[NetworkOptions, NetworkOptions | None]]:
    """Read both sides of some networks again, Neutron last; returns what is right and stored."""
    stored = {network_id: store.network(network_id) for network_id in network_ids}
    networks = source.lookup_networks(network_ids)
    return [
        (options_of(networks[each]) if each in networks else _deleted(each), found)
        for each, found in stored.items()
    ]


def _decide(options: NetworkOptions, found: NetworkOptions | None) -> tuple[Action, bool]:
    """What to do, and whether the store would refuse it although it is right."""
    if found is None:
        return Action.ADD if options.tags else Action.REMOVE, False
    if options.says_as(found):
        return Action.NONE, False
    if found.revision_number > options.revision_number:
        LOG.warning(
            "the options of network %s have revision %s in the store, and only %s in Neutron: they "
            "stay. If Neutron's database was restored, run: ovs-metadata port sync --from-neutron "
            "--force",
            *(options.network_id, found.revision_number, options.revision_number),
        )
        return Action.LEAVE, False
    same_revision = found.revision_number == options.revision_number
    return Action.UPDATE if options.tags else Action.REMOVE, same_revision


def _deleted(network_id: str) -> NetworkOptions:
    """Nothing, for good: Neutron never gives an id again."""
    return NetworkOptions(network_id, "", (), MAX_REVISION)


def _tags(network: Network) -> tuple[str, ...]:
    return tuple(sorted(filter(is_option_tag, network.get("tags") or ())))[:MAX_TAGS]
