"""The keys of the deployment's configuration: which there are, and which values are good."""

import dataclasses

import pytest

from ovs_metadata.agent.config.schema import (
    ENABLED,
    FILES,
    MASK,
    NOVA_METADATA_URL,
    PREFIX,
    SHARED_SECRET,
    known_keys,
    nearest,
)
from ovs_metadata.metadata_options import BY_NAME
from ovs_metadata.proxy.control.settings import schema


def test_midonets_keys_have_midonets_defaults() -> None:
    defaults = {
        name: known_keys()[f"agent.openstack.metadata.{name}"].default
        for name in ("nova_metadata_url", "shared_secret", "enabled")
    }
    assert defaults == {
        "nova_metadata_url": "http://localhost:8775",
        "shared_secret": "",
        "enabled": False,
    }


def test_every_setting_of_the_proxy_has_a_key() -> None:
    of_settings = {FILES.get(field.name, field.name) for field in schema()}
    names = {key.relative_name for key in known_keys().values()}
    own = {"enabled", "shared_secret", "nova_metadata_url"}
    options = {f"options.{name}" for name in (*BY_NAME, "host_names", "tenant_options")}
    assert names == of_settings - {"nova_metadata_urls"} | own | options


def test_every_key_is_explained_and_has_a_valid_default() -> None:
    for key in known_keys().values():
        assert key.name.startswith(f"{PREFIX}.")
        assert key.doc.endswith("."), key.name
        assert key.problem(key.default) is None, key.name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enabled", True),
        ("nova_metadata_url", "http://a:8775, https://b"),
        ("shared_secret", "with a blank in it"),
        ("connect_timeout", 2),
        ("rate_limit", 0.5),
        ("max_body", 1),
        ("access_log", "json"),
        ("nova_ca_file", "/etc/ssl/nova.pem"),
        ("options.hop_limit", 64),
        ("options.tokens", "required"),
        ("options.host_names", "md.example, metadata"),
    ],
)
def test_a_good_value(name: str, value: object) -> None:
    assert known_keys()[f"{PREFIX}.{name}"].problem(value) is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("enabled", "yes", "true or false"),
        ("options.hop_limit", 65, "from 0 to 64"),
        ("options.hop_limit", -1, "from 0 to 64"),
        ("options.tokens", "on", "off or optional or required"),
        ("options.host_names", "http://md", "no name of a host"),
        ("enabled", 1, "true or false"),
        ("nova_metadata_url", "", "empty"),
        ("nova_metadata_url", ",", "empty"),
        ("nova_metadata_url", "gopher://nova", "gopher"),
        ("nova_metadata_url", ["http://nova"], "text"),
        ("shared_secret", 123, "quotes"),
        ("shared_secret", True, "quotes"),
        ("shared_secret", " blank", "white space"),
        ("shared_secret", "two\nlines", "control characters"),
        ("shared_secret", "x" * 4097, "4096 bytes"),
        ("shared_secret", MASK, "secret itself"),
        ("connect_timeout", 0, "above 0"),
        ("connect_timeout", "5", "number"),
        ("connect_timeout", float("inf"), "number"),
        ("max_body", 1.5, "integer"),
        ("rate_limit", -1, "0 or more"),
        ("access_log", "xml", "text or json or off"),
        ("nova_ca_file", "nova.pem", "absolute path"),
    ],
)
def test_a_bad_value_is_refused_with_what_it_must_be(
    name: str, value: object, expected: str
) -> None:
    problem = known_keys()[f"{PREFIX}.{name}"].problem(value)
    assert problem is not None
    assert problem.startswith("must ")
    assert expected in problem


@pytest.mark.parametrize("value", [4711, "  leading s3cret", "s3cret\n", ["s3cret"]])
def test_a_bad_secret_is_not_repeated(value: object) -> None:
    problem = known_keys()[SHARED_SECRET].problem(value)
    assert problem is not None
    assert "s3cret" not in problem
    assert "4711" not in problem


def test_secrets_and_only_secrets_are_masked() -> None:
    assert known_keys()[SHARED_SECRET].shown("s3cret") == MASK
    assert known_keys()[SHARED_SECRET].shown("") == ""
    assert known_keys()[NOVA_METADATA_URL].shown("http://nova") == "http://nova"
    assert [key.name for key in known_keys().values() if key.secret] == [SHARED_SECRET]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("agent.openstack.metadata.enabld", ENABLED),
        ("enabled", ENABLED),
        ("agent.metadata.shared_secret", SHARED_SECRET),
        ("agent.openstack.metadata.nova_metadata_urls", NOVA_METADATA_URL),
        ("agent.openstack.metadata.option.tokens", f"{PREFIX}.options.tokens"),
        ("zookeeper.hosts", None),
    ],
)
def test_the_nearest_key_is_suggested(written: str, meant: str | None) -> None:
    assert nearest(written) == meant


def test_a_key_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        known_keys()[ENABLED].default = True  # type: ignore[misc]
