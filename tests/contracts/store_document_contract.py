"""What every store must do for documents, announcements and locks; see `store_contract`."""

from __future__ import annotations

# Assertions are what this module is for.
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from contracts.store_support import Place
from lab.rig.process import wait_for
from ovs_metadata.store.errors import StoreError, UnknownLayout
from ovs_metadata.store.interface import Announced, DocumentFollower
from ovs_metadata.store.layout import (
    AGENTS,
    CONFIG_NODES,
    VERSION_NODE,
    agent_path,
    config_node_path,
    config_template_path,
    name_of,
)
from ovs_metadata.store.record import MAX_DOCUMENT
from ovs_metadata.store.store import Store

PATH = config_node_path("host-1")
DEFAULT = config_template_path("default")


class DocumentContract:
    """Reading, writing and following documents."""

    def test_a_document_is_written_on_condition_of_what_was_read(self, store: Store) -> None:
        """From absent over changed to deleted; a late writer gets an error."""
        assert store.read_document(PATH) is None
        assert store.write_document(PATH, b"one", None)
        assert not store.write_document(PATH, b"another first", None)
        first = store.read_document(PATH)
        assert first is not None
        assert first.data == b"one"
        assert store.write_document(PATH, b"two", first.version)
        assert not store.write_document(PATH, b"two, late", first.version)
        assert not store.delete_document(PATH, first.version)
        second = store.read_document(PATH)
        assert second is not None
        assert second.data == b"two"
        assert store.delete_document(PATH, second.version)
        assert store.read_document(PATH) is None
        assert not store.write_document(PATH, b"three", second.version)
        assert not store.delete_document(PATH, second.version)

    def test_concurrent_writers_never_lose_an_update(self, place: Place) -> None:
        """Each adds its words to the document, again if another was faster."""
        stores = [place.open() for _ in range(4)]

        def add(number: int) -> None:
            for step in range(6):
                done = False
                while not done:
                    old = stores[number].read_document(PATH)
                    new = (old.data if old else b"") + b"%d.%d " % (number, step)
                    done = stores[number].write_document(PATH, new, old.version if old else None)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(4)))
        document = stores[0].read_document(PATH)
        for each in stores:
            each.close()
        assert document is not None
        expected = [b"%d.%d" % (number, step) for number in range(4) for step in range(6)]
        assert sorted(document.data.split()) == expected

    def test_documents_are_listed_in_order(self, place: Place, store: Store) -> None:
        """By name, those below one path only; none of an empty store, which stays so."""
        assert store.document_names(CONFIG_NODES) == []
        assert place.read(VERSION_NODE) is None
        for name in ("b", "a-2", "A"):
            assert store.write_document(config_node_path(name), b"", None)
        assert store.write_document(DEFAULT, b"", None)
        assert store.document_names(CONFIG_NODES) == ["A", "a-2", "b"]

    @pytest.mark.parametrize("host", ["2001:db8::5", "Südwest 1", "cell@host", "%", "h" * 255])
    def test_a_host_may_be_called_anything_printable(self, store: Store, host: str) -> None:
        """Its documents and its agent are found by its name, and name it."""
        assert store.write_document(config_node_path(host), b"own", None)
        assert list(map(name_of, store.document_names(CONFIG_NODES))) == [host]
        announcement = store.announce(agent_path(host), b"here")
        _wait_for_announced(store, (host, b"here", True))
        announcement.close()
        _wait_for_announced(store, (host, b"here", False))

    def test_a_document_too_large_is_refused(self, store: Store) -> None:
        """By its size, before it is sent."""
        with pytest.raises(StoreError, match=str(MAX_DOCUMENT + 1)):
            store.write_document(PATH, b"x" * (MAX_DOCUMENT + 1), None)
        assert store.write_document(PATH, b"x" * MAX_DOCUMENT, None)

    def test_a_layout_of_another_version_takes_no_documents(
        self, place: Place, store: Store
    ) -> None:
        """And gives none."""
        place.write(VERSION_NODE, b"3")
        with pytest.raises(UnknownLayout):
            store.write_document(PATH, b"", None)
        with pytest.raises(UnknownLayout):
            store.read_document(PATH)
        with pytest.raises(UnknownLayout):
            store.document_names(CONFIG_NODES)
        assert place.read(PATH) is None

    def test_a_followed_document_arrives_as_it_is_and_as_it_changes(self, store: Store) -> None:
        """From absent over changed to deleted, and no longer once it is closed."""
        received: list[bytes | None] = []
        follower = store.follow_document(PATH, received.append)
        wait_for(lambda: received == [None], "the document to be absent")
        assert store.write_document(PATH, b"one", None)
        wait_for(lambda: received[-1] == b"one", "the document")
        first = store.read_document(PATH)
        assert first is not None
        assert store.write_document(PATH, b"two", first.version)
        wait_for(lambda: received[-1] == b"two", "the changed document")
        second = store.read_document(PATH)
        assert second is not None
        assert store.delete_document(PATH, second.version)
        wait_for(lambda: received[-1] is None, "the deleted document to be absent")
        follower.close()
        assert received == [None, b"one", b"two", None]

    def test_a_listener_may_follow_other_documents_and_close_what_it_follows(
        self, store: Store
    ) -> None:
        """As when one document names another."""
        assert store.write_document(PATH, b"default", None)
        assert store.write_document(DEFAULT, b"content", None)
        received: list[bytes | None] = []
        followers: list[DocumentFollower] = []
        ready = threading.Event()

        def listen(name: bytes | None) -> None:
            assert ready.wait(timeout=10)
            assert name is not None
            followers.append(store.follow_document(DEFAULT, received.append))
            followers[0].close()

        followers.append(store.follow_document(PATH, listen))
        ready.set()
        wait_for(lambda: received == [b"content"], "the other document")
        document = store.read_document(PATH)
        assert document is not None
        assert store.write_document(PATH, b"changed", document.version)
        assert store.delete_document(PATH, store.read_document(PATH).version)  # type: ignore[union-attr]
        assert len(followers) == 2


class AnnouncementContract:
    """Being seen to be alive."""

    def test_an_announcer_is_alive_until_it_closes(self, store: Store) -> None:
        """Its content stays, with the time of the announcement."""
        announcement = store.announce(agent_path("hv-1"), b"starting")
        _wait_for_announced(store, ("hv-1", b"starting", True))
        announcement.update(b"serving")
        _wait_for_announced(store, ("hv-1", b"serving", True))
        assert abs(store.announced(AGENTS)[0].changed - time.time()) < 60
        document = store.read_document(agent_path("hv-1"))
        assert document is not None
        assert document.data == b"serving"
        assert not store.delete_document(agent_path("hv-1"), document.version)
        announcement.close()
        _wait_for_announced(store, ("hv-1", b"serving", False))
        assert store.delete_document(agent_path("hv-1"), document.version)
        assert store.announced(AGENTS) == []

    def test_one_announcement_is_read_by_its_path(self, store: Store) -> None:
        assert store.announced_at(agent_path("hv-1")) is None
        store.announce(agent_path("hv-2"), b"other")
        announcement = store.announce(agent_path("hv-1"), b"serving")
        _wait_for_announced(store, ("hv-1", b"serving", True), ("hv-2", b"other", True))
        assert store.announced_at(agent_path("hv-1")) == store.announced(AGENTS)[0]
        announcement.close()
        _wait_for_announced(store, ("hv-1", b"serving", False), ("hv-2", b"other", True))
        found = store.announced_at(agent_path("hv-1"))
        assert found
        assert (found.name, found.data, found.alive) == ("hv-1", b"serving", False)

    def test_an_announcer_dies_with_its_store(self, place: Place, store: Store) -> None:
        """And the one that follows takes its place, with the first still ending or not."""
        first = place.open()
        first.announce(agent_path("hv-1"), b"first")
        _wait_for_announced(store, ("hv-1", b"first", True))
        second = place.open()
        second.announce(agent_path("hv-1"), b"second")
        _wait_for_announced(store, ("hv-1", b"second", True))
        second.announce(agent_path("hv-2"), b"third")
        first.close()
        _wait_for_announced(store, ("hv-1", b"second", True), ("hv-2", b"third", True))
        second.close()
        _wait_for_announced(store, ("hv-1", b"second", False), ("hv-2", b"third", False))


class LockContract:
    """One at a time."""

    def test_a_lock_is_held_by_one(self, place: Place, store: Store) -> None:
        """Others get an error, at once or after a time; names are independent."""
        other = place.open()
        with store.lock("sync") as held:
            assert held
            with other.lock("sync") as second:
                assert not second
            with store.lock("sync", wait=0.3) as third:
                assert not third
            with other.lock("another") as fourth:
                assert fourth
        with other.lock("sync") as held:
            assert held
        other.close()

    def test_who_waits_for_a_lock_gets_it(self, place: Place, store: Store) -> None:
        """As soon as it is free, also because its holder failed."""
        other = place.open()
        waiting = threading.Event()

        def wait_for_it() -> bool:
            waiting.set()
            with other.lock("sync", wait=None) as held:
                return held

        def fail(pool: ThreadPoolExecutor) -> None:
            with store.lock("sync") as held:
                assert held
                futures.append(pool.submit(wait_for_it))
                assert waiting.wait(timeout=10)
                raise ZeroDivisionError

        futures: list[Future[bool]] = []
        with ThreadPoolExecutor(1) as pool:
            with pytest.raises(ZeroDivisionError):
                fail(pool)
            assert futures[0].result(timeout=10)
        other.close()

    def test_a_lock_goes_with_its_holder(self, place: Place, store: Store) -> None:
        """A client that closes the store, or dies, holds no lock any more."""
        other = place.open()
        lock = other.lock("sync")
        assert lock.__enter__()
        other.close()
        del lock
        with store.lock("sync", wait=30) as held:
            assert held


def _wait_for_announced(store: Store, *expected: tuple[str, bytes, bool]) -> None:
    def seen(each: Announced) -> tuple[str, bytes, bool]:
        return each.name, each.data, each.alive

    wait_for(
        lambda: [seen(each) for each in store.announced(AGENTS)] == list(expected),
        f"announcements {expected}",
    )
