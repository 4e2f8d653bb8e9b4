"""The sources of one host's configuration, read once."""

from typing import Any

import pytest

from lab.rig.process import wait_for
from ovs_metadata.store.configuration import (
    ENABLED,
    ConfigSource,
    ConfigurationFollower,
    is_enabled,
    read_sources,
)
from ovs_metadata.store.documents import MalformedDocument, change, replace
from ovs_metadata.store.layout import (
    config_assignment_path,
    config_node_path,
    config_template_path,
)
from ovs_metadata.store.store import Store


def test_an_unconfigured_host_has_empty_sources(store: Store) -> None:
    assert read_sources(store, "h") == [
        ConfigSource("host h", {}),
        ConfigSource("template default", {}),
    ]


def test_the_assigned_template_is_between_host_and_default(store: Store) -> None:
    for number, path in enumerate(
        [config_node_path("h"), config_template_path("big"), config_template_path("default")]
    ):
        change(store, path, lambda _, number=number: {"a": number})  # type: ignore[misc]
    replace(store, config_assignment_path("h"), lambda _: b"big\n")
    assert read_sources(store, "h") == [
        ConfigSource("host h", {"a": 0}),
        ConfigSource("template big", {"a": 1}),
        ConfigSource("template default", {"a": 2}),
    ]


def test_an_assignment_of_what_cannot_be_a_template_is_passed_over(store: Store) -> None:
    change(store, config_template_path("default"), lambda _: {"a": 1})
    replace(store, config_assignment_path("h"), lambda _: b"../etc\n")
    host, template, default = read_sources(store, "h")
    assert (host.values, template.values, default.values) == ({}, {}, {"a": 1})
    assert "host h: ignoring the template assigned to it" in template.problem
    assert not host.problem


def test_a_malformed_document_is_named(store: Store) -> None:
    replace(store, config_template_path("default"), lambda _: b"{")
    with pytest.raises(MalformedDocument, match="template default"):
        read_sources(store, "h")


@pytest.mark.parametrize(
    ("values", "before", "expected"),
    [
        ([None, True], False, True),
        ([False, True], True, False),
        ([True, False], False, True),
        (["yes", True], False, False),
        (["yes", None], True, True),
        ([None, None], True, False),
    ],
)
def test_whether_it_is_enabled(values: list[Any], before: bool, *, expected: bool) -> None:
    sources = [ConfigSource("", {} if value is None else {ENABLED: value}) for value in values]
    assert is_enabled(sources, before) is expected


def test_a_document_malformed_from_the_beginning_leaves_open_what_is_wanted(store: Store) -> None:
    path = config_template_path("default")
    replace(store, path, lambda _: b"{")
    received: list[None] = []
    follower = ConfigurationFollower(store, "h", lambda: received.append(None))
    try:
        wait_for(
            lambda: len(received) >= 3, "the host's own document, its assignment and the template"
        )
        (problem,) = follower.problems()
        assert problem.startswith("template default: it is not JSON")
        assert follower.sources() is None
        replace(store, path, lambda _: b"{}")
        wait_for(lambda: follower.sources() is not None, "the mended document")
        assert follower.problems() == []
        replace(store, path, lambda _: b"[]")
        wait_for(follower.problems, "a problem with the document")
        assert follower.sources() is not None, "its last content stays"
    finally:
        follower.close()
