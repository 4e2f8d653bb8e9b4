"""What the tests of stores share: records to write, listeners that remember, fixtures."""

from __future__ import annotations

# Assertions are what this module is for.
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol
from uuid import UUID

import pytest

from lab.rig.process import wait_for
from ovs_metadata.store.errors import MalformedRecord, StoreError
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store


class Place(Protocol):
    """Where one test's store is."""

    def open(self, on_fatal: Callable[[StoreError], None] | None = None) -> Store:
        """Open the store, as a process of its own would."""

    def write(self, path: str, content: bytes) -> None:
        """Write a node of the layout, as another program would."""

    def read(self, path: str) -> bytes | None:
        """A node of the layout, None if there is none."""


def record(number: int = 1, revision: int = 1, instance: int | None = None) -> PortRecord:
    """A port's record; ports with different numbers are in different shards, up to 256."""
    return PortRecord(
        port_id=str(UUID(int=(number % 256 << 120) + number)),
        project_id=f"project-{number}",
        device_id=str(UUID(int=instance or number)),
        device_owner="compute:nova",
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=("10.0.0.5", "2001:db8::5"),
        network_id=str(UUID(int=7)),
        revision_number=revision,
    )


class StateRecorder:
    """A listener that records the states it gets, and from how many threads at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, PortState]] = []
        self._at_once = threading.Lock()
        self.overlapped = False

    def __call__(self, port_id: str, state: PortState) -> None:
        """Record a state."""
        alone = self._at_once.acquire(blocking=False)
        self.overlapped |= not alone
        self.calls.append((port_id, state))
        if alone:
            self._at_once.release()

    def of(self, port_id: str) -> list[PortState]:
        """The states of one port, in order."""
        return [state for received, state in list(self.calls) if received == port_id]

    def wait_for(self, port_id: str, expected: PortState, timeout: float = 10.0) -> None:
        """Wait until this is the last state of a port."""
        wait_for(
            lambda: self.of(port_id)[-1:] == [expected],
            f"{port_id} to be {expected}, not {self.of(port_id)[-1:]}",
            timeout,
        )

    def wait_for_malformed(self, port_id: str, count: int = 1) -> list[MalformedRecord]:
        """Wait until a port's record was malformed that often, and return those states."""

        def received() -> list[MalformedRecord]:
            return [state for state in self.of(port_id) if isinstance(state, MalformedRecord)]

        wait_for(lambda: len(received()) >= count, f"{port_id} to be malformed")
        return received()


class Followed:
    """A follower, and a port of which changes are made to know that all before was seen."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.received = StateRecorder()
        self.follower = store.follow(self.received)
        self._revision = itertools.count(1)

    def settle(self, *port_ids: str) -> None:
        """Follow these, and wait until everything written before must have been looked at.

        Two rounds: the first change of the marker may be seen in a look that began before.
        """
        marker = record(255)
        self.follower.set_ports([*port_ids, marker.port_id])
        for revision in itertools.islice(self._revision, 2):
            changed = replace(marker, revision_number=revision)
            assert self.store.put(changed)
            self.received.wait_for(marker.port_id, changed)


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    """The store, opened."""
    opened = place.open()
    yield opened
    opened.close()


@pytest.fixture
def followed(store: Store) -> Iterator[Followed]:
    """A listener and its follower."""
    following = Followed(store)
    yield following
    following.follower.close()
    assert not following.received.overlapped, "the listener was called twice at once"
