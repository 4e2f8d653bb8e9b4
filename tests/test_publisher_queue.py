"""What waits to be published: the newest change of each port, first come, first served."""

import threading

from contracts.store_support import record

from lab.rig.process import wait_for
from ovs_metadata.publisher.networks import NetworkChange
from ovs_metadata.publisher.ports import Change
from ovs_metadata.publisher.queue import AnyChange, ChangeQueue
from ovs_metadata.store.network import NetworkOptions


def change(number: int, revision: int = 1) -> Change:
    wanted = record(number, revision)
    return Change(wanted.port_id, revision, wanted)


def removal(number: int, revision: int) -> Change:
    return Change(record(number).port_id, revision, None)


def drain(queue: ChangeQueue) -> list[AnyChange]:
    taken: list[AnyChange] = []
    while not queue.wait_empty(0):
        taken.append(queue.take())
        queue.task_done()
    return taken


def test_ports_come_out_in_the_order_they_came_in() -> None:
    queue = ChangeQueue()
    changes = [change(3), change(1), change(2)]
    assert all(queue.put(item) for item in changes)
    assert drain(queue) == changes


def test_only_the_newest_change_of_a_port_waits_and_keeps_its_place() -> None:
    queue = ChangeQueue()
    for item in (change(1, 3), change(2, 1), change(1, 5), change(1, 4)):
        assert queue.put(item)
    assert drain(queue) == [change(1, 5), change(2, 1)]


def test_a_removal_outdates_the_record_of_its_revision() -> None:
    queue = ChangeQueue()
    for item in (change(1, 3), removal(1, 3), change(1, 3)):
        assert queue.put(item)
    assert drain(queue) == [removal(1, 3)]


def test_what_is_given_back_goes_to_the_end() -> None:
    queue = ChangeQueue()
    queue.put(change(1))
    queue.put(change(2))
    assert queue.take() == change(1)
    queue.give_back()
    assert drain(queue) == [change(2), change(1)]


def test_what_is_given_back_yields_to_something_newer() -> None:
    queue = ChangeQueue()
    queue.put(change(1, 3))
    assert queue.take() == change(1, 3)
    queue.put(change(1, 4))
    queue.give_back()
    assert drain(queue) == [change(1, 4)]


def test_what_is_given_back_stays_when_something_older_came_in() -> None:
    queue = ChangeQueue()
    queue.put(removal(1, 9))
    assert queue.take() == removal(1, 9)
    queue.put(change(1, 4))
    queue.give_back()
    assert drain(queue) == [removal(1, 9)]


def test_beyond_the_limit_only_ports_that_wait_already_are_taken() -> None:
    queue = ChangeQueue(limit=2)
    assert queue.put(change(1))
    assert queue.put(change(2))
    assert not queue.put(change(3))
    assert queue.put(change(2, 2))
    assert drain(queue) == [change(1), change(2, 2)]


def test_it_is_empty_when_taken_changes_are_done() -> None:
    queue = ChangeQueue()
    queue.put(change(1))
    queue.take()
    assert not queue.wait_empty(0)
    queue.task_done()
    assert queue.wait_empty(0)


def test_taking_waits_for_a_change() -> None:
    queue = ChangeQueue()
    taken: list[AnyChange] = []
    thread = threading.Thread(target=lambda: taken.append(queue.take()), daemon=True)
    thread.start()
    queue.put(change(1))
    wait_for(lambda: taken, "the change to be taken")
    thread.join()
    assert taken == [change(1)]


def test_a_network_waits_beside_its_ports_and_its_newest_change_counts() -> None:
    queue = ChangeQueue()
    port = change(1)

    def network(revision: int, *tags: str) -> NetworkChange:
        return NetworkChange(NetworkOptions(port.port_id, "p", tags, revision))

    for item in (network(2), port, network(1, "metadata:x"), network(2, "metadata:y")):
        assert queue.put(item)
    assert drain(queue) == [network(2, "metadata:y"), port]
