"""The options of networks: what Neutron's network makes of its document, and what is compared."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ovs_metadata.publisher.comparison import Action
from ovs_metadata.publisher.networks import Network, options_of, synchronise_networks
from ovs_metadata.store import open_store
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.layout import network_path
from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.store import Store

LIMIT = "metadata:hop-limit=1"


def network(number: int, *tags: str, revision: int = 3) -> dict[str, Any]:
    return {
        "id": str(UUID(int=number)),
        "project_id": "p",
        "tags": list(tags),
        "revision_number": revision,
    }


@dataclass
class Networks:
    """Networks that change between the first look and the second: first `listed`, then `there`."""

    listed: list[Network]
    there: list[Network] | None = None
    looked_up: list[str] = field(default_factory=list)

    def networks(self) -> Iterator[Network]:
        return iter(self.listed)

    def lookup_networks(self, network_ids: Collection[str]) -> Mapping[str, Network]:
        self.looked_up += network_ids
        there = self.listed if self.there is None else self.there
        return {each["id"]: each for each in there if each["id"] in network_ids}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"directory:{tmp_path}")
    yield opened
    opened.close()


def synchronised(
    source: Networks, store: Store, *, dry_run: bool = False, force: bool = False, all_: bool = True
) -> dict[Action, int]:
    done: Counter[Action] = synchronise_networks(
        source,
        store,
        dry_run=dry_run,
        force=force,
        may_remove=lambda: all_,
        stopped=lambda: False,
    )
    return dict(done)


def documents(store: Store) -> dict[str, NetworkOptions | None]:
    return {each: found for each, found in store.networks() if not found or found.tags}


def test_only_tags_that_set_options_are_in_the_document() -> None:
    found = options_of(network(1, "blue", "metadata:x=é", LIMIT))
    assert found == NetworkOptions(str(UUID(int=1)), "p", (LIMIT,), 3)
    assert options_of({**network(1), "project_id": None, "tags": None}).project_id == ""


@pytest.mark.parametrize("wrong", [{"revision_number": None}, {"id": "x"}])
def test_a_network_without_a_revision_or_id_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match=r"Neutron's network .* has "):
        options_of({**network(1, LIMIT), **wrong})


def test_documents_are_brought_to_what_neutron_has(store: Store) -> None:
    same, missing, newer, off, gone, plain = (network(number, LIMIT) for number in range(1, 7))
    plain["tags"] = ["blue"]
    store.put_network(options_of({**same, "revision_number": 2}))
    store.put_network(options_of({**newer, "revision_number": 2, "tags": ["metadata:x"]}))
    store.put_network(options_of({**off, "revision_number": 2}))
    store.put_network(options_of(gone))
    off["tags"] = []
    source = Networks([same, missing, newer, off, plain])
    expected = {Action.NONE: 1, Action.ADD: 1, Action.UPDATE: 1, Action.REMOVE: 2}
    before = documents(store)
    assert synchronised(source, store, dry_run=True) == expected
    assert documents(store) == before
    assert synchronised(source, store) == expected
    found = documents(store)
    assert set(found) == {same["id"], missing["id"], newer["id"]}
    assert found[newer["id"]] == options_of(newer)
    assert set(source.looked_up) == {each["id"] for each in (missing, newer, off, gone)}
    assert not store.put_network(options_of({**gone, "revision_number": 99}))
    assert set(synchronised(source, store)) == {Action.NONE}


def test_what_changes_meanwhile_is_right(store: Store) -> None:
    store.put_network(options_of(network(1, LIMIT, revision=4)))
    source = Networks([network(1), network(2, LIMIT)], [network(1, LIMIT, revision=4)])
    assert synchronised(source, store) == {Action.NONE: 1, Action.REMOVE: 1}
    assert set(documents(store)) == {str(UUID(int=1))}


def test_a_document_of_the_same_revision_with_other_tags_is_replaced(store: Store) -> None:
    store.put_network(replace(options_of(network(1, LIMIT)), tags=("metadata:x",)))
    assert synchronised(Networks([network(1, LIMIT)]), store) == {Action.UPDATE: 1}
    assert documents(store) == {str(UUID(int=1)): options_of(network(1, LIMIT))}


def test_a_newer_document_stays_unless_forced(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    store.put_network(options_of(network(1, "metadata:x", revision=9)))
    source = Networks([network(1, LIMIT)])
    assert synchronised(source, store) == {Action.LEAVE: 1}
    assert "If Neutron's database was restored" in caplog.text
    assert synchronised(source, store, force=True) == {Action.UPDATE: 1}
    assert documents(store) == {str(UUID(int=1)): options_of(network(1, LIMIT))}


def test_a_document_that_cannot_be_used_is_replaced(store: Store) -> None:
    for number in (1, 2):
        store.write_document(network_path(str(UUID(int=number))), b"nonsense", None)
    done = synchronised(Networks([network(1, LIMIT)]), store)
    assert done == {Action.ADD: 1, Action.REMOVE: 1}
    assert documents(store) == {str(UUID(int=1)): options_of(network(1, LIMIT))}


def test_who_does_not_see_every_network_removes_none(store: Store) -> None:
    store.put_network(options_of(network(1, LIMIT)))
    assert synchronised(Networks([]), store, all_=False) == {}
    assert len(documents(store)) == 1
