"""Mappings that share their parts: as dictionaries, whatever changes."""

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.host.shared_map import SharedMap, changed_keys

KEYS = st.integers(-2, 300)
ITEMS = st.dictionaries(KEYS, st.integers(0, 3))
CHANGES = st.lists(st.tuples(ITEMS, st.lists(KEYS)), max_size=6)


@given(ITEMS, CHANGES)
def test_after_any_changes_it_has_the_items_of_a_dictionary(
    items: dict[int, int], changes: list[tuple[dict[int, int], list[int]]]
) -> None:
    earlier = [(SharedMap(items), items)]
    for come, gone in changes:
        shared, plain = earlier[-1]
        now = shared.with_changes(come, gone)
        expected = {key: value for key, value in plain.items() if key not in gone} | come
        assert now == expected
        assert expected == now
        assert now == SharedMap(expected)
        assert (now == shared) is (expected == plain)
        assert (len(now), set(now)) == (len(expected), set(expected))
        assert all((key in now) is (key in expected) for key in range(-2, 301))
        assert [now.get(key, -1) for key in range(-2, 301)] == [
            expected.get(key, -1) for key in range(-2, 301)
        ]
        earlier.append((now, expected))
    # What was there before has not changed, and each two differ as dictionaries do.
    for shared, plain in earlier:
        assert shared == plain
        for other, expected in earlier:
            differing = {
                key for key in range(-2, 301) if plain.get(key, -1) != expected.get(key, -1)
            }
            assert changed_keys(shared, other) == differing
            assert changed_keys(plain, other) == differing


def test_a_value_that_equals_the_present_one_does_not_replace_it() -> None:
    value = [1]
    shared = SharedMap({"one": value, "two": [2]})
    assert shared.with_changes({"one": [1]}, gone=["one", "three"]) is shared
    assert shared.with_changes({"one": [1], "two": [3]})["one"] is value


def test_an_object_that_replaces_another_is_a_change() -> None:
    before, after = SharedMap({1: [0], 2: [0]}), SharedMap({1: [0]})
    assert changed_keys(before, after) == {1, 2}
