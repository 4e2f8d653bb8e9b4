"""Configuration documents: what is read of them, and that no change is lost."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.store.documents import (
    MalformedDocument,
    Unstorable,
    below,
    change,
    decode,
    encode,
    flatten,
    nested,
    replace,
)
from ovs_metadata.store.layout import config_template_path
from ovs_metadata.store.store import Store

PATH = config_template_path("default")

NAMES = st.text("abc", min_size=1, max_size=2)
SCALARS = (
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
TREES = st.recursive(SCALARS, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{}", {}),
        ('{"a": {"b": 1}}', {"a.b": 1}),
        ('{"a.b": 1}', {"a.b": 1}),
        ('{"a.b": 1, "a": {"b": 2, "c": [3]}}', {"a.b": 2, "a.c": [3]}),
        ('{"a": null}', {}),
    ],
)
def test_nested_and_dotted_names_mean_the_same(text: str, values: dict[str, Any]) -> None:
    assert decode(text.encode()) == values


def test_no_document_has_no_values() -> None:
    assert decode(None) == {}


@pytest.mark.parametrize("data", [b"", b"s3cret", b"[]", b'"s3cret"', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_malformed_and_not_repeated(data: bytes) -> None:
    with pytest.raises(MalformedDocument) as refused:
        decode(data)
    assert "s3cret" not in str(refused.value)


@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_what_is_written_is_read(tree: dict[str, Any]) -> None:
    values = flatten(tree)
    assert decode(encode(values)) == values
    assert flatten(nested(values)) == values


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), "x" * 100_000])
def test_what_cannot_be_stored_is_refused(value: object) -> None:
    with pytest.raises(Unstorable):
        encode({"a": value})


def test_below_a_key_are_its_value_and_those_of_longer_names() -> None:
    values = {"a": 1, "a.b": 2, "ab": 3}
    assert below(values, "a") == {"a": 1, "a.b": 2}
    assert below(values, "a.b") == {"a.b": 2}
    assert below(values, "") == values


def test_a_document_without_values_is_no_document(store: Store) -> None:
    change(store, PATH, lambda values: {**values, "a": 1})
    assert store.read_document(PATH)
    change(store, PATH, lambda _: {})
    assert store.read_document(PATH) is None
    change(store, PATH, lambda _: {})
    assert store.read_document(PATH) is None


def test_nothing_is_written_when_nothing_changes(store: Store) -> None:
    change(store, PATH, lambda _: {"a": 1})
    replace(store, PATH, lambda data: data)
    document = store.read_document(PATH)
    assert document
    assert json.loads(document.data) == {"a": 1}


def test_a_change_is_repeated_when_another_writer_was_faster(store: Store) -> None:
    seen = []

    def changed(values: Any) -> Any:
        seen.append(dict(values))
        if len(seen) == 1:
            change(store, PATH, lambda others: {**others, "theirs": 1})
        return {**values, "ours": 2}

    change(store, PATH, changed)
    assert seen == [{}, {"theirs": 1}]
    document = store.read_document(PATH)
    assert document
    assert decode(document.data) == {"theirs": 1, "ours": 2}


def _add(store: Store, key: str) -> None:
    change(store, PATH, lambda values: {**values, key: 1})


def test_concurrent_writers_lose_nothing(store: Store) -> None:
    def write(writer: int) -> None:
        for number in range(5):
            _add(store, f"w{writer}.n{number}")

    writers = [threading.Thread(target=write, args=[writer]) for writer in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
    document = store.read_document(PATH)
    assert document
    assert len(decode(document.data)) == 20
