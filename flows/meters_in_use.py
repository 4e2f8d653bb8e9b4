"""Which of our meters the switch has, and which the desired flows use. No I/O, no library."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from ovs_metadata.flows.flow_message import meter_of
from ovs_metadata.flows.meters import ofport_of


class MetersInUse:
    """The meters that the switch has, against those that desired flows use."""

    def __init__(self) -> None:
        self._there: set[int] = set()
        self._users: Counter[int] = Counter()
        self._doubtful: set[int] = set()

    def there(self, numbers: Collection[int]) -> None:
        """The switch has these of our meters, and no others."""
        self._there = set(numbers)
        self._doubtful = {*self._there, *self._users}

    def used(self, messages: Iterable[bytes]) -> None:
        """These flows are desired."""
        for number in _meters_of(messages):
            self._users[number] += 1
            self._doubtful.add(number)

    def used_no_longer(self, messages: Iterable[bytes]) -> None:
        """These flows are desired no longer."""
        for number in _meters_of(messages):
            self._users[number] -= 1
            self._doubtful.add(number)

    def changes(self, undecided: Collection[int]) -> tuple[list[int], list[int]]:
        """The meters to add, and those to delete, but for those of undecided ofports."""
        add: list[int] = []
        delete: list[int] = []
        doubtful, self._doubtful = self._doubtful, set()
        for number in sorted(doubtful):
            is_used = self._users[number] > 0
            if not is_used:
                del self._users[number]
            if is_used and number not in self._there:
                add.append(number)
            elif not is_used and number in self._there:
                if ofport_of(number) in undecided:
                    self._doubtful.add(number)
                else:
                    delete.append(number)
        self._there.update(add)
        self._there.difference_update(delete)
        return add, delete


def _meters_of(messages: Iterable[bytes]) -> Iterator[int]:
    for message in messages:
        number = meter_of(message)
        if number is not None:
            yield number
