"""HOCON as MidoNet's operators write it."""

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_metadata.cli.mn_conf.hocon import HoconError, parse, render
from ovs_metadata.store.documents import flatten

# pyhocon about itself.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")

WORDS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
VALUES = (
    st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text(st.characters(codec="ascii", exclude_categories=["C"]))
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("a.b : 42", {"a.b": 42}),
        ("a.b = 42", {"a.b": 42}),
        ("a { b : 42, c = true }", {"a.b": 42, "a.c": True}),
        ('{"a": {"b": 42}}', {"a.b": 42}),
        ('{"a.b": 42}', {"a.b": 42}),
        ("# a comment\na : 1 // another", {"a": 1}),
        ("a : 1\na : 2", {"a": 2}),
        ("a : some words", {"a": "some words"}),
        ('a : "http://nova:8775"', {"a": "http://nova:8775"}),
        ("a : http://nova:8775", {"a": "http://nova:8775"}),
        ("a : [1, 2]", {"a": [1, 2]}),
        ("a : 5s", {"a": 5.0}),
        ("a : 100ms", {"a": 0.1}),
        ("a : 2 minutes", {"a": 120.0}),
        ('a : "5s"', {"a": "5s"}),
        ("a : 1.5e3", {"a": 1500.0}),
        ("a : null", {}),
    ],
)
def test_what_is_read(text: str, values: dict[str, Any]) -> None:
    assert parse(text) == values


@pytest.mark.parametrize(
    "text",
    ["a : [s3cret", "s3cret", "a : p@ss s3cret$", "a : ${s3cret}", "[1]", "{" * 9],
)
def test_what_is_no_hocon_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(HoconError) as refused:
        parse(text)
    assert "s3cret" not in str(refused.value)
    assert "HOCON" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b : 1 month", "a.b: a month"),
        ("a : 2 years", "a: a month or a year"),
        ("a : 99999999999 days", "longer than can be counted"),
        ('include "/not/there"', "include is refused"),
        ('a { include file("/not/there") }', "include is refused"),
        ('include "/not/there"\na : 1', "include is refused"),
        ('include "/etc/*"', "include is refused"),
        ('include required(file("/etc/passwd"))', "include is refused"),
        ('include url("http://127.0.0.1:1/")', "include is refused"),
        ('include "file:///etc/passwd"', "include is refused"),
        ('include package("ovs_metadata:py.typed")', "include is refused"),
    ],
)
def test_what_would_be_something_else_or_nothing_is_refused(
    text: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(HoconError, match=expected):
        parse(text)
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["other", "*"])
def test_a_file_that_is_there_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").write_text("b : 2")
    with pytest.raises(HoconError, match="include is refused"):
        parse(f'a {{ include "{tmp_path}/{name}" }}')


def test_no_environment_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3CRET", "s3cret")
    with pytest.raises(HoconError, match="not HOCON"):
        parse("a : ${S3CRET}")
    assert parse("a : 1\na : ${?S3CRET}") == {"a": 1}
    with pytest.raises(HoconError, match="not HOCON"):
        parse("S3CRET : ${S3CRET}x")
    assert parse("b : 1\na : ${b}") == {"a": 1, "b": 1}
    assert os.environ["S3CRET"] == "s3cret"


def test_what_is_strange_is_quoted_and_escaped_when_shown() -> None:
    shown = render({"a\nFORGED": "\x7f\u202e", "b c.d": "ü"})
    assert shown == '"a\\nFORGED" = "\\u007f\\u202e"\n"b c" {\n    d = "ü"\n}\n'
    assert "\nb = 1" not in render({"a": 1}, {"a": ["from: host x\nb = 1"]})


def test_the_error_names_the_place_where_it_ceases_to_be_hocon() -> None:
    with pytest.raises(HoconError, match="line 2, column 6"):
        parse("a : 1\nb : p@ss\n")


@settings(max_examples=30)  # pyhocon takes its time
@given(st.dictionaries(WORDS, VALUES | st.dictionaries(WORDS, VALUES, min_size=1), max_size=5))
def test_what_is_shown_can_be_read_back(tree: dict[str, Any]) -> None:
    values = flatten(tree)
    assert parse(render(values)) == values
    assert parse(json.dumps(tree)) == values


def test_comments_are_above_their_key() -> None:
    assert render({"a.b": "x", "a.c": 1}, {"a.b": ["what it is"]}) == (
        '# what it is\na.b = "x"\n\na.c = 1\n'
    )


@pytest.mark.parametrize("implementation", ["datetime.timedelta", "dateutil.relativedelta"])
def test_a_duration_is_seconds_whatever_pyhocon_makes_of_it(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where python-dateutil is installed, pyhocon takes its class."""
    module, name = implementation.split(".")
    if module == "dateutil":
        module = "dateutil.relativedelta"
    made_of = getattr(importlib.import_module(module), name)
    monkeypatch.setattr("pyhocon.period_parser.period_impl", made_of)
    assert parse("a : 90s\nb : 2 hours\nc : [1500ms]") == {"a": 90.0, "b": 7200.0, "c": [1.5]}
