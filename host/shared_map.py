"""A mapping that stays as it is. A changed copy shares with it all parts without a change.

Of thousands of ports one changes at a time. To make a changed copy, and to find what differs
between two copies, takes about as long with thousands of keys as with a few.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, compress, repeat
from operator import is_, is_not
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_PARTS = 64
"""A change copies one part, and the tuple of all. With 4,000 keys both have about that size."""

_ABSENT: Any = object()


class SharedMap(Mapping[K, V]):
    """An immutable mapping. Equal keys are in the same part of each."""

    __slots__ = ("_parts",)

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._parts: tuple[dict[K, V], ...] = ({},) * _PARTS
        if items:
            self._parts = self.with_changes(items)._parts

    def with_changes(self, items: Mapping[K, V], gone: Iterable[K] = ()) -> "SharedMap[K, V]":
        """Return a copy with these items, and without the keys in `gone` that are not in `items`.

        A value that equals the present one does not replace it.
        """
        parts = list(self._parts)

        def own(number: int) -> dict[K, V]:
            if parts[number] is self._parts[number]:
                parts[number] = dict(parts[number])
            return parts[number]

        for key in gone:
            if key in self and key not in items:
                own(hash(key) % _PARTS).pop(key, None)
        for key, value in items.items():
            present = self.get(key, _ABSENT)
            if present is not value and present != value:
                own(hash(key) % _PARTS)[key] = value
        if all(map(is_, parts, self._parts)):
            return self
        changed: SharedMap[K, V] = SharedMap()
        changed._parts = tuple(parts)
        return changed

    def keys_changed_since(self, before: "SharedMap[K, V]") -> set[K]:
        """Return the keys that are in one of both alone, or have another object as their value."""
        changed: set[K] = set()
        parts = zip(before._parts, self._parts, strict=True)
        for then, now in compress(parts, map(is_not, before._parts, self._parts)):
            changed |= _changed_keys(then, now)
        return changed

    def __getitem__(self, key: K) -> V:
        """Return the value of a key."""
        return self._parts[hash(key) % _PARTS][key]

    def get(self, key: K, default: Any = None) -> Any:
        """Return the value of a key, or the default."""
        return self._parts[hash(key) % _PARTS].get(key, default)

    def __contains__(self, key: object) -> bool:
        """Whether the key is there."""
        return key in self._parts[hash(key) % _PARTS]

    def __iter__(self) -> Iterator[K]:
        """The keys."""
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        """The number of keys."""
        return sum(map(len, self._parts))

    def __eq__(self, other: object) -> bool:
        """Whether it has the same items."""
        if isinstance(other, SharedMap):
            return self._parts == other._parts
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Like a dictionary's."""
        return f"SharedMap({dict(self)!r})"


def changed_keys(before: Mapping[K, V], after: Mapping[K, V]) -> set[K]:
    """Return the keys that are in one of both alone, or have another object as their value.

    Two mappings of which one is no `SharedMap` are compared as a whole.
    """
    if isinstance(before, SharedMap) and isinstance(after, SharedMap):
        return after.keys_changed_since(before)
    return _changed_keys(before, after)


def _changed_keys(before: Mapping[K, V], after: Mapping[K, V]) -> set[K]:
    # For dictionaries the interpreter executes no step for each key.
    values = map(before.get, after, repeat(_ABSENT))
    return {*(before.keys() - after.keys()), *compress(after, map(is_not, after.values(), values))}
