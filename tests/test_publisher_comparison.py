"""What a comparison of Neutron's ports with the records finds, and walking through the pages."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.stand_ins.neutron_port import make_port
from ovs_metadata.publisher.comparison import Action, Difference, apply, compare, refused_by_mistake
from ovs_metadata.publisher.paging import MarkerGone, PagingIgnored, walk
from ovs_metadata.publisher.ports import Port, record_of
from ovs_metadata.store import open_store
from ovs_metadata.store.layout import port_path
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store


@dataclass
class Ports:
    """Ports that change between the first look and the second: first `listed`, then `there`."""

    listed: list[Port]
    there: list[Port] | None = None
    looked_up: list[str] = field(default_factory=list)

    def ports(self) -> Iterator[Port]:
        return iter(sorted(self.listed, key=lambda port: str(port["id"])))

    def lookup(self, port_ids: Collection[str]) -> Mapping[str, Port]:
        self.looked_up += port_ids
        there = self.listed if self.there is None else self.there
        return {port["id"]: port for port in there if port["id"] in port_ids}


def record(number: int, **changes: Any) -> PortRecord:
    return record_of(make_port(number, **changes))


def found(source: Ports, store: Store) -> dict[str, tuple[Action, bool]]:
    return {f.port_id: (f.action, f.force) for f in compare(source, store)}


def test_what_is_missing_differs_or_is_left_over(store: Store) -> None:
    same, missing, changed, left_over, dhcp = (make_port(number) for number in range(5))
    store.put(record_of(same))
    store.put(replace(record_of(changed), device_id="another", revision_number=2))
    store.put(record_of(left_over))
    source = Ports([same, missing, changed, dhcp | {"device_owner": "network:dhcp"}])
    assert found(source, store) == {
        same["id"]: (Action.NONE, False),
        missing["id"]: (Action.ADD, False),
        changed["id"]: (Action.UPDATE, False),
        left_over["id"]: (Action.REMOVE, False),
    }
    assert source.looked_up == [left_over["id"]]


def test_a_difference_in_the_revision_alone_is_none(store: Store) -> None:
    store.put(record(1, revision_number=2))
    store.put(record(2, revision_number=9))
    source = Ports([make_port(1), make_port(2)])
    assert {action for action, _ in found(source, store).values()} == {Action.NONE}


def test_a_malformed_record_is_replaced_or_removed(tmp_path: Path, store: Store) -> None:
    store.put(record(1))
    store.put(record(2))
    for port in (make_port(1), make_port(2)):
        (tmp_path / "store" / port_path(port["id"]).removeprefix("/")).write_bytes(b"{}")
    source = Ports([make_port(1)])
    differences = {f.port_id: f for f in compare(source, store)}
    assert differences[make_port(1)["id"]].action is Action.UPDATE
    assert differences[make_port(2)["id"]].action is Action.REMOVE
    assert all(apply(store, difference) for difference in differences.values())
    assert dict(store.records()) == {make_port(1)["id"]: record(1)}


def test_a_port_created_while_neutron_was_read_keeps_its_record(store: Store) -> None:
    store.put(record(1))
    assert found(Ports([], there=[make_port(1)]), store) == {
        make_port(1)["id"]: (Action.NONE, False)
    }


def test_a_port_changed_while_neutron_was_read_keeps_its_record(store: Store) -> None:
    changed = make_port(1, revision_number=4, device_id="another")
    store.put(record_of(changed))
    assert found(Ports([make_port(1)], there=[changed]), store) == {
        changed["id"]: (Action.NONE, False)
    }


def test_what_is_published_while_neutron_is_asked_again_is_not_held_against_it(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is asked first, so that Neutron knows of all that is in it."""
    listed, changed, later = (
        make_port(1, revision_number=number, device_id=f"instance-{number}") for number in (3, 4, 5)
    )

    class Busy(Ports):
        def lookup(self, port_ids: Collection[str]) -> Mapping[str, Port]:
            answer = super().lookup(port_ids)
            store.put(record_of(later))
            return answer

    store.put(record_of(changed))
    assert found(Busy([listed], there=[changed]), store) == {changed["id"]: (Action.NONE, False)}
    assert caplog.text == ""


def test_a_port_that_is_gone_when_neutron_is_asked_again_is_not_added(store: Store) -> None:
    refused = [Difference(Action.ADD, make_port(number)["id"], record(number)) for number in (1, 2)]
    again = list(refused_by_mistake(Ports([], there=[make_port(2)]), refused))
    assert again == [replace(refused[1], force=True)]
    assert list(store.port_ids()) == []


def test_a_port_that_is_no_longer_an_instances_loses_its_record(store: Store) -> None:
    store.put(record(1))
    spare = make_port(1, device_owner="", device_id="", revision_number=4)
    assert found(Ports([spare]), store) == {spare["id"]: (Action.REMOVE, False)}


def test_of_one_revision_neutron_is_right_and_its_record_is_forced(store: Store) -> None:
    store.put(record(1, device_id="written-by-hand"))
    (difference,) = compare(Ports([make_port(1)]), store)
    assert (difference.action, difference.force) == (Action.UPDATE, True)
    assert apply(store, difference)
    assert store.get(make_port(1)["id"]) == record(1)


def test_a_store_ahead_of_neutron_stays_and_is_reported(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = record(1, revision_number=9, device_id="another")
    store.put(ahead)
    with caplog.at_level(logging.WARNING):
        (difference,) = compare(Ports([make_port(1)]), store)
    assert difference.action is Action.LEAVE
    assert not apply(store, difference)
    assert store.get(ahead.port_id) == ahead
    assert ahead.port_id in caplog.text
    assert "--force" in caplog.text


def test_a_record_written_since_it_was_compared_is_neither_overwritten_nor_removed(
    store: Store,
) -> None:
    newer = record(1, revision_number=9, device_id="another")
    store.put(newer)
    port_id = newer.port_id
    assert not apply(store, Difference(Action.UPDATE, port_id, record(1), record(1)))
    assert not apply(store, Difference(Action.REMOVE, port_id, None, record(1)))
    assert store.get(port_id) == newer


NUMBERS = st.sets(st.integers(0, 12))


# A directory store syncs each write to the disk.
@settings(deadline=None, max_examples=25)
@given(in_neutron=NUMBERS, in_store=NUMBERS, changed=NUMBERS)
def test_doing_what_is_found_makes_the_store_right(
    in_neutron: set[int], in_store: set[int], changed: set[int]
) -> None:
    with (
        tempfile.TemporaryDirectory() as root,
        contextlib.closing(open_store(f"directory:{root}")) as store,
    ):
        for number in in_store:
            store.put(record(number, revision_number=2 if number in changed else 3))
        source = Ports(
            [
                make_port(number, device_id="another" if number in changed else "same")
                for number in in_neutron
            ]
        )
        for difference in compare(source, store):
            if difference.action is not Action.NONE:
                assert apply(store, difference)
        assert dict(store.records()) == {port["id"]: record_of(port) for port in source.listed}
        assert {action for action, _ in found(source, store).values()} <= {Action.NONE}


def test_pages_that_do_not_begin_after_their_marker_end_the_walk() -> None:
    ports: list[Port] = [{"id": "01"}, {"id": "02"}]
    walked = walk(lambda _marker: ports)
    assert [next(walked)["id"], next(walked)["id"]] == ["01", "02"]
    with pytest.raises(PagingIgnored, match="after 02 begins with 01"):
        next(walked)


@given(data=st.data(), count=st.integers(0, 30), size=st.integers(1, 7))
def test_every_port_that_stays_is_walked_past_once(
    data: st.DataObject, count: int, size: int
) -> None:
    ids = [f"{number:02}" for number in range(count)]
    stay = set(ids)

    def read_page(marker: str | None) -> list[Port]:
        # Meanwhile ports are deleted, that of the marker among them.
        stay.difference_update(data.draw(st.sets(st.sampled_from(ids))) if ids else set())
        if marker is not None and marker not in stay:
            raise MarkerGone
        page: list[Port] = [{"id": i} for i in ids if i in stay and i > (marker or "")]
        return page[:size]

    walked = [port["id"] for port in walk(read_page)]
    assert walked == sorted(set(walked))
    assert stay <= set(walked)
