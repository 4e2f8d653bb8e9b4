"""Sets by key: a dictionary that forgets a key with its last item."""

from collections.abc import Iterable, Iterator, Set
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Index(Generic[K, V]):
    """The items of each key."""

    def __init__(self) -> None:
        self._items: dict[K, set[V]] = {}

    def add(self, keys: Iterable[K], item: V) -> None:
        """Have the item among those of these keys."""
        for key in keys:
            self._items.setdefault(key, set()).add(item)

    def remove(self, keys: Iterable[K], item: V) -> None:
        """Have it no more among those of these keys."""
        for key in keys:
            items = self._items.get(key, set())
            items.discard(item)
            if not items:
                self._items.pop(key, None)

    def of(self, key: K) -> Set[V]:
        """The items of a key, perhaps none."""
        return self._items.get(key, set())

    def __contains__(self, key: K) -> bool:
        """Whether the key has an item."""
        return key in self._items

    def __iter__(self) -> Iterator[K]:
        """The keys that have items."""
        return iter(self._items)
