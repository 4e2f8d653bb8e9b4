"""What every store must do for those who follow ports; part of `contracts.store_contract`."""

# Assertions are what this module is for.

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from contracts.store_support import Followed, Place, StateRecorder, record
from lab.rig.process import wait_for
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.layout import port_path
from ovs_metadata.store.store import Store


class FollowContract:
    """Following ports."""

    def test_a_followed_port_arrives_as_it_is_and_as_it_changes(
        self, store: Store, followed: Followed
    ) -> None:
        """From absent over created and changed to deleted."""
        followed.follower.set_ports([record().port_id])
        followed.received.wait_for(record().port_id, None)
        for state in (record(revision=1), record(revision=2, instance=9)):
            store.put(state)
            followed.received.wait_for(record().port_id, state)
        store.delete(record().port_id)
        followed.received.wait_for(record().port_id, None)
        store.put(record(revision=3))
        followed.received.wait_for(record().port_id, record(revision=3))
        store.delete(record().port_id, revision_number=3)
        followed.received.wait_for(record().port_id, None)
        store.put(record(revision=4))
        followed.received.wait_for(record().port_id, record(revision=4))

    def test_what_is_confirmed_holds_all_that_was_written_before(
        self, store: Store, followed: Followed
    ) -> None:
        """Each time, however soon after the write the confirmation is asked for."""
        port_id = record().port_id
        store.put(record())
        followed.settle(port_id)
        for revision in range(2, 40):
            store.put(record(revision=revision))
            confirmed = threading.Event()
            seen: list[PortState] = []

            def on_confirmed(
                seen: list[PortState] = seen, confirmed: threading.Event = confirmed
            ) -> None:
                seen += followed.received.of(port_id)[-1:]
                confirmed.set()

            followed.follower.confirm(on_confirmed)
            assert confirmed.wait(10)
            assert seen == [record(revision=revision)]

    def test_ports_not_followed_do_not_arrive(self, store: Store, followed: Followed) -> None:
        """Neither those never followed, nor those not followed any more."""
        store.put(record(1))
        followed.settle(record(1).port_id)
        before = list(followed.received.of(record(1).port_id))
        assert before == [record(1)]
        followed.settle()
        store.put(record(1, revision=2))
        store.put(record(2))
        followed.settle()
        assert followed.received.of(record(1).port_id) == before
        assert followed.received.of(record(2).port_id) == []

    def test_a_port_followed_again_arrives_again(self, store: Store, followed: Followed) -> None:
        """Even if nothing changed."""
        store.put(record())
        followed.settle(record().port_id)
        followed.settle()
        followed.settle(record().port_id)
        # At once, and so without a look at the store in between.
        followed.follower.set_ports([])
        followed.follower.set_ports([record().port_id])
        wait_for(
            lambda: followed.received.of(record().port_id) == [record()] * 3,
            "the port's third state",
        )

    def test_an_unchanged_record_arrives_once(
        self, place: Place, store: Store, followed: Followed
    ) -> None:
        """Also when it is written again, and when other ports are followed."""
        store.put(record())
        followed.settle(record().port_id)
        place.write(port_path(record().port_id), record().to_json())
        followed.settle(record().port_id, record(2).port_id)
        store.put(record())
        followed.settle(record().port_id)
        assert followed.received.of(record().port_id) == [record()]

    def test_a_malformed_record_arrives_once_and_disturbs_no_other(
        self, place: Place, store: Store, followed: Followed
    ) -> None:
        """By name, once for each content; a corrected record arrives again."""
        bad, good = record(1).port_id, record(2).port_id
        place.write(port_path(bad), b"{]")
        store.put(record(2))
        followed.settle(bad, good)
        assert bad in str(followed.received.wait_for_malformed(bad)[0])
        place.write(port_path(bad), b"{]")
        store.put(record(2, revision=2))
        followed.settle(bad, good)
        assert followed.received.of(good) == [record(2), record(2, revision=2)]
        assert len(followed.received.wait_for_malformed(bad)) == 1
        place.write(port_path(bad), b"[]")
        assert "not a JSON object" in str(followed.received.wait_for_malformed(bad, count=2)[1])
        store.put(record(1))
        followed.received.wait_for(bad, record(1))

    def test_what_is_no_port_id_is_absent(self, store: Store, followed: Followed) -> None:
        """And disturbs no other."""
        store.put(record())
        names = ["", "tap0", "../../../etc/passwd", record(0xAB).port_id.upper()]
        followed.settle(record().port_id, *names)
        assert followed.received.of(record().port_id) == [record()]
        for name in names:
            assert followed.received.of(name) == [None]

    def test_a_thousand_ports(self, store: Store, followed: Followed) -> None:
        """All records arrive, and then only changed ones."""
        records = [record(number) for number in range(1, 1001)]
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(store.put, records[:500]))
        followed.follower.set_ports([each.port_id for each in records])
        for each in records[:500]:
            followed.received.wait_for(each.port_id, each)
        for each in records[500:]:
            followed.received.wait_for(each.port_id, None)
        store.put(records[700])
        followed.received.wait_for(records[700].port_id, records[700])
        store.put(record(77, revision=2))
        followed.received.wait_for(record(77).port_id, record(77, revision=2))
        assert len(followed.received.calls) == 1002

    def test_a_listener_that_fails_is_logged_and_called_again(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One listener's mistake ends nothing."""
        received = StateRecorder()

        def listen(port_id: str, state: PortState) -> None:
            received(port_id, state)
            raise ValueError("mistake of the listener's")

        with caplog.at_level(logging.ERROR):
            follower = store.follow(listen)
            follower.set_ports([record().port_id])
            received.wait_for(record().port_id, None)
            store.put(record())
            received.wait_for(record().port_id, record())
            follower.close()
        assert "mistake of the listener's" in caplog.text
        assert record().port_id in caplog.text

    def test_a_listener_may_use_the_store_and_change_the_ports(self, store: Store) -> None:
        """It runs in a thread of the follower's, which holds nothing the store needs."""
        received = StateRecorder()
        store.put(record(1))
        store.put(record(2))

        def listen(port_id: str, state: PortState) -> None:
            received(port_id, state)
            assert store.get(port_id) == state
            follower.set_ports([record(2).port_id])

        follower = store.follow(listen)
        follower.set_ports([record(1).port_id])
        received.wait_for(record(2).port_id, record(2))
        follower.close()
        assert received.of(record(1).port_id) == [record(1)]

    def test_followers_are_independent(self, store: Store) -> None:
        """Each has its ports, and closing one leaves the other."""
        first, second = Followed(store), Followed(store)
        store.put(record())
        first.follower.set_ports([record().port_id])
        second.follower.set_ports([record().port_id])
        first.received.wait_for(record().port_id, record())
        second.received.wait_for(record().port_id, record())
        first.follower.close()
        store.put(record(revision=2))
        second.received.wait_for(record().port_id, record(revision=2))
        assert first.received.of(record().port_id) == [record()]
        second.follower.close()

    def test_closing_ends_every_thread(self, place: Place) -> None:
        """Of followers, and of the store itself."""
        before = set(threading.enumerate())
        store = place.open()
        store.follow(StateRecorder()).set_ports([record().port_id])
        assert set(threading.enumerate()) > before
        store.close()
        assert set(threading.enumerate()) <= before
