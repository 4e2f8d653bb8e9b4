"""Whose value is effective, and what happens to bad ones."""

import pytest

from ovs_metadata.agent.config.effective import SCHEMA, config_digest, effective
from ovs_metadata.agent.config.schema import (
    ENABLED,
    NOVA_METADATA_URL,
    PREFIX,
    SHARED_SECRET,
    known_keys,
)
from ovs_metadata.store.configuration import ConfigSource

TIMEOUT = f"{PREFIX}.connect_timeout"


def test_without_documents_the_defaults_are_effective() -> None:
    found = effective([])
    assert found.values == {name: key.default for name, key in known_keys().items()}
    assert set(found.origins.values()) == {SCHEMA}
    assert found.problems == ()


@pytest.mark.parametrize(
    ("given", "winner"),
    [
        (["host", "template", "default"], "host"),
        (["template", "default"], "template"),
        (["default"], "default"),
    ],
)
def test_the_host_wins_over_its_template_and_that_over_the_default(
    given: list[str], winner: str
) -> None:
    timeouts = {"host": 1, "template": 2, "default": 3}
    sources = [
        ConfigSource(name, {TIMEOUT: timeouts[name]} if name in given else {}) for name in timeouts
    ]
    found = effective(sources)
    assert found.values[TIMEOUT] == timeouts[winner]
    assert found.origins[TIMEOUT] == winner


def test_each_key_is_decided_by_itself() -> None:
    found = effective(
        [
            ConfigSource("host h", {ENABLED: False}),
            ConfigSource("default", {ENABLED: True, TIMEOUT: 9}),
        ]
    )
    assert found.values[ENABLED] is False
    assert found.values[TIMEOUT] == 9


def test_a_bad_value_leaves_the_value_before_effective() -> None:
    before = effective([ConfigSource("default", {TIMEOUT: 7})]).values
    sources = [
        ConfigSource("host h", {TIMEOUT: "soon"}),
        ConfigSource("default", {TIMEOUT: 8, ENABLED: True}),
    ]
    found = effective(sources, before)
    assert found.values[TIMEOUT] == 7
    assert found.values[ENABLED] is True, "other keys are not held up by it"
    (problem,) = found.problems
    assert problem.startswith(f"host h: {TIMEOUT} must be a number above 0, not 'soon' (")


def test_a_bad_value_that_was_there_from_the_beginning_is_passed_over() -> None:
    sources = [ConfigSource("host h", {TIMEOUT: "soon"}), ConfigSource("default", {TIMEOUT: 8})]
    assert effective(sources).values[TIMEOUT] == 8
    assert effective(sources[:1]).values[TIMEOUT] == known_keys()[TIMEOUT].default


def test_a_bad_value_that_is_overridden_does_no_harm() -> None:
    sources = [ConfigSource("host h", {TIMEOUT: 8}), ConfigSource("default", {TIMEOUT: "soon"})]
    assert effective(sources).problems == ()


def test_a_bad_secret_is_reported_and_not_shown() -> None:
    (problem,) = effective([ConfigSource("default", {SHARED_SECRET: ["s3cret"]})]).problems
    assert SHARED_SECRET in problem
    assert "s3cret" not in problem


def test_unknown_keys_are_kept_and_those_under_our_prefix_complained_of() -> None:
    found = effective([ConfigSource("default", {f"{PREFIX}.enabld": True, "zookeeper.hosts": "a"})])
    assert found.values["zookeeper.hosts"] == "a"
    (problem,) = found.problems
    assert problem.endswith(f"did you mean {ENABLED}?")


def test_secrets_do_not_show_in_a_representation() -> None:
    source = ConfigSource("default", {SHARED_SECRET: "s3cret"})
    assert "s3cret" not in repr(source)
    assert "s3cret" not in repr(effective([source]))


@pytest.mark.parametrize(
    "values", [{SHARED_SECRET: "other"}, {ENABLED: True}, {NOVA_METADATA_URL: "http://b"}]
)
def test_the_generation_differs_with_every_value(values: dict[str, object]) -> None:
    plain = effective([]).values
    changed = effective([ConfigSource("default", values)]).values
    assert config_digest(plain) == config_digest(dict(plain))
    assert config_digest(changed) != config_digest(plain)


def test_the_generation_is_that_of_the_effective_values_from_any_source() -> None:
    here = effective(
        [ConfigSource("host h", {TIMEOUT: 3}), ConfigSource("default", {"other.key": 1})]
    )
    there = effective([ConfigSource("default", {TIMEOUT: 3})])
    assert config_digest(here.values) == config_digest(there.values)


@pytest.mark.parametrize(("key", "bad"), [(ENABLED, "yes"), (SHARED_SECRET, " bad ")])
def test_enabled_and_the_secret_are_never_guessed(key: str, bad: str) -> None:
    sources = [
        ConfigSource("host h", {key: bad, TIMEOUT: "soon"}),
        ConfigSource("default", {ENABLED: True}),
    ]
    found = effective(sources)
    ((name, (why,)),) = found.undecided.items()
    assert name == key
    assert found.enabled is (None if key == ENABLED else True)
    assert why.startswith(f"host h: {key} must ")
    assert why in found.problems
    before = effective([ConfigSource("default", {ENABLED: True, SHARED_SECRET: "good"})]).values
    later = effective(sources, before)
    assert not later.undecided, "the value before is known"
    assert later.values[key] == before[key]
