"""What others wrote: shown on one line, and read within bounds."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.untrusted import MAX_DEPTH, UnreadableJson, escaped, fits, parse_json

LIMIT = 100_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("az-1", "az-1"),
        ("compute:Württemberg Test", "compute:Württemberg Test"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("one\r\ntwo\ttabbed", "one\\r\\ntwo\\ttabbed"),
        ("\x7f\x80\x9b31m", "\\x7f\\x80\\x9b31m"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u202eevil\u2066\u200f\u061c", "\\u202eevil\\u2066\\u200f\\u061c"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text())
def test_an_escaped_text_is_one_printable_line(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert escaped(shown) == shown


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(lambda number: abs(number) != float("inf")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(documents)
def test_json_is_read_as_it_was_written(document: object) -> None:
    assert parse_json(json.dumps(document), LIMIT) == document
    assert parse_json(json.dumps(document).encode(), LIMIT) == document


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 20_000])
def test_what_is_nested_deeply_is_refused(bracket: str, depth: int) -> None:
    closing = "]" if bracket == "[" else "}"
    for text in (bracket * depth, bracket * depth + "1" + closing * depth):
        with pytest.raises(UnreadableJson):
            parse_json(text, 10 * LIMIT)


def test_what_is_nested_as_deeply_as_it_may_be_is_read() -> None:
    assert parse_json("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, LIMIT)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[" + b" " * 50 + b"]", "52 bytes, more than the 50 allowed"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b"", "not JSON: Expecting value at line 1, column 1"),
        (b"[NaN]", "NaN is not a number of JSON"),
        (b"-Infinity", "-Infinity is not a number of JSON"),
        (b"1e999", "a number is too large"),
    ],
)
def test_the_reason_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableJson, match=reason):
        parse_json(data, 50)


def test_an_integer_without_end_is_refused() -> None:
    with pytest.raises(UnreadableJson):
        parse_json(b"1" * 20_000, LIMIT)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(UnreadableJson):
        parse_json(data, LIMIT)


SHAPE = {"id": str, "host": (str, type(None)), "ips": [{"address": str}]}


@pytest.mark.parametrize(
    ("value", "whether"),
    [
        ({"id": "a", "host": "b", "ips": [{"address": "c", "more": 1}], "more": 2}, True),
        ({"id": "a", "ips": []}, True),
        ({"host": "b", "ips": []}, False),
        ({"id": None, "ips": []}, False),
        ({"id": "a", "host": 1, "ips": []}, False),
        ({"id": "a", "ips": None}, False),
        ({"id": "a", "ips": {}}, False),
        ({"id": "a", "ips": ["c"]}, False),
        ({"id": "a", "ips": [{"address": "c"}, {}]}, False),
        ([], False),
        (None, False),
    ],
)
def test_what_shape_a_value_has(value: object, whether: bool) -> None:
    assert fits(value, SHAPE) is whether
