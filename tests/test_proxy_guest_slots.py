"""The slots of a port and the queue for them."""

from collections.abc import Callable

from ovs_metadata.proxy.guest.slots import Slots


def at_once(function: Callable[[], None]) -> None:
    function()


class Connection:
    """Counts what it is granted."""

    def __init__(self) -> None:
        self.granted = 0

    def slot_granted(self) -> None:
        self.granted += 1


def test_slots_go_to_the_connection_that_waits_longest() -> None:
    slots: Slots[Connection] = Slots(at_once)
    first, second, third, fourth = (Connection() for _ in range(4))
    assert slots.acquire(first, limit=1)
    for waiting in (second, third, fourth):
        assert not slots.acquire(waiting, limit=1)
    slots.leave_queue(third)
    slots.release(1)
    assert [each.granted for each in (second, third, fourth)] == [1, 0, 0]
    slots.release(1)
    assert [each.granted for each in (second, third, fourth)] == [1, 0, 1]
    slots.release(1)
    assert slots.acquire(first, limit=1)


def test_a_slot_is_granted_after_a_pause_and_is_taken_meanwhile() -> None:
    due: list[Callable[[], None]] = []
    slots: Slots[Connection] = Slots(due.append)
    first, second, late = (Connection() for _ in range(3))
    slots.acquire(first, limit=1)
    slots.acquire(second, limit=1)
    slots.release(1)
    assert second.granted == 0
    assert not slots.acquire(late, limit=1)
    due.pop()()
    assert (second.granted, late.granted) == (1, 0)
    # Who has left in the pause leaves the turn free.
    slots.release(1)
    slots.leave_queue(late)
    due.pop()()
    assert slots.acquire(first, limit=1)
