"""The agent warns once if every client can read the shared secret in the store."""

import logging

import pytest

from lab.rig.process import wait_for
from ovs_metadata.agent.config import world_readable_secret
from ovs_metadata.agent.config.schema import ENABLED, SHARED_SECRET
from ovs_metadata.agent.config.world_readable_secret import (
    WorldReadableSecretCheck,
    secret_warnings,
)
from ovs_metadata.store.configuration import read_sources
from ovs_metadata.store.documents import change, encode, replace
from ovs_metadata.store.layout import (
    config_assignment_path,
    config_node_path,
    config_template_path,
)
from ovs_metadata.store.store import Store

DEFAULT = config_template_path("default")


def _open(monkeypatch: pytest.MonkeyPatch, store: Store, *paths: str) -> None:
    monkeypatch.setattr(store, "is_world_readable", lambda path: path in paths)


def _put(store: Store, path: str, key: str, *, value: object) -> None:
    change(store, path, lambda values: {**values, key: value})


def test_a_directory_store_gives_no_warning(store: Store) -> None:
    _put(store, DEFAULT, SHARED_SECRET, value="s3cret")
    assert not store.is_world_readable(DEFAULT)
    assert secret_warnings(store, read_sources(store, "h")) == []


def test_only_documents_with_the_secret_are_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = config_template_path("big")
    _open(monkeypatch, store, DEFAULT, big, config_node_path("h"))
    replace(store, config_assignment_path("h"), lambda _: b"big")
    _put(store, DEFAULT, ENABLED, value=True)
    _put(store, config_node_path("h"), SHARED_SECRET, value="")
    assert secret_warnings(store, read_sources(store, "h")) == []
    _put(store, big, SHARED_SECRET, value="s3cret")
    (warning,) = secret_warnings(store, read_sources(store, "h"))
    assert warning.startswith("template big holds the shared secret")


def test_the_warning_comes_once_as_soon_as_the_documents_can_be_read(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(world_readable_secret, "RETRY_INTERVAL", 0.01)
    _open(monkeypatch, store, DEFAULT)
    replace(store, DEFAULT, lambda _: b"{")
    with caplog.at_level(logging.DEBUG, world_readable_secret.__name__):
        check = WorldReadableSecretCheck(store, "h")
        wait_for(lambda: caplog.text.count("not known yet") > 1, "a second attempt")
    replace(store, DEFAULT, lambda _: encode({SHARED_SECRET: "s3cret"}))
    wait_for(lambda: not check.running, "the end")
    assert caplog.text.count("holds the shared secret") == 1
    assert "s3cret" not in caplog.text


def test_it_ends_when_closed(store: Store) -> None:
    replace(store, DEFAULT, lambda _: b"{")
    check = WorldReadableSecretCheck(store, "h")
    assert check.running
    check.close()
    wait_for(lambda: not check.running, "the end")
