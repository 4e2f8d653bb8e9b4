"""The effective deployment follows the documents of a real store."""

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.rig.certificates import Authority
from lab.rig.process import wait_for
from ovs_metadata.agent.config.deployment import Deployment, DeploymentError, read_file
from ovs_metadata.agent.config.live import LiveDeployment
from ovs_metadata.agent.config.schema import PREFIX
from ovs_metadata.store import open_store
from ovs_metadata.store.documents import change, replace
from ovs_metadata.store.layout import (
    config_assignment_path,
    config_node_path,
    config_template_path,
)
from ovs_metadata.store.store import Store

HOST = "compute-1"
OWN = config_node_path(HOST)
DEFAULT = config_template_path("default")


class Live:
    """The agent's part: refresh at each notification."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changed = threading.Event()
        self.live = LiveDeployment(store, HOST, self.changed.set)

    def until(self, wanted: Callable[[Deployment], bool], timeout: float = 10.0) -> Deployment:
        """Refresh until `wanted(deployment)`."""
        while True:
            deployment = self.live.refresh()
            if deployment is not None and wanted(deployment):
                return deployment
            assert self.changed.wait(timeout), f"waited in vain; effective: {deployment}"
            self.changed.clear()

    def until_retry_after(self, seconds: int) -> Deployment:
        return self.until(lambda found: found.settings.retry_after == seconds)

    def assign(self, template: str | None) -> None:
        name = template.encode() if template else None
        replace(self.store, config_assignment_path(HOST), lambda _: name)

    def set(self, path: str, **values: object) -> None:
        given = {f"{PREFIX}.{name}": value for name, value in values.items()}
        change(self.store, path, lambda before: {**before, **given})


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    store = open_store(f"directory:{tmp_path}/store")
    made = Live(store)
    yield made
    made.live.close()
    store.close()


def test_an_empty_store_means_disabled(live: Live) -> None:
    deployment = live.until(lambda _: True)
    assert not deployment.enabled
    assert deployment.secret == b""
    assert live.live.generation


def test_there_is_no_deployment_before_the_store_has_answered() -> None:
    unreachable = open_store("zookeeper://127.0.0.1:1", wait=None)
    made = LiveDeployment(unreachable, HOST, lambda: None)
    try:
        assert made.refresh() is None
    finally:
        made.close()
        unreachable.close()


def test_changes_are_followed(live: Live) -> None:
    live.set(DEFAULT, enabled=True, shared_secret="one", nova_metadata_url="http://a, http://b")
    deployment = live.until(lambda found: found.enabled)
    assert deployment.secret == b"one"
    assert deployment.settings.nova_metadata_urls == ("http://a", "http://b")
    before = live.live.generation
    live.set(DEFAULT, shared_secret="two", rate_limit=5)
    assert live.until(lambda found: found.secret == b"two").settings.rate_limit == 5
    assert live.live.generation != before
    live.set(OWN, enabled=False)
    assert live.until(lambda found: not found.enabled).secret == b"two"
    replace(live.store, OWN, lambda _: None)
    live.until(lambda found: found.enabled)


def test_the_assigned_template_is_followed_and_only_it(live: Live) -> None:
    live.set(DEFAULT, retry_after=1)
    live.set(config_template_path("big"), retry_after=2)
    live.set(config_template_path("small"), retry_after=3)
    for template, expected in (("big", 2), ("small", 3), (None, 1), ("none-of-that-name", 1)):
        live.assign(template)
        live.until_retry_after(expected)
    live.set(config_template_path("none-of-that-name"), retry_after=4)
    live.until_retry_after(4)
    live.set(OWN, retry_after=5)
    live.until_retry_after(5)


def test_a_bad_value_is_named_and_the_last_good_one_stays(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    live.set(DEFAULT, enabled=True, shared_secret="one", connect_timeout=3)
    live.until(lambda found: found.enabled)
    generation = live.live.generation
    live.set(DEFAULT, connect_timeout="soon", shared_secret=["s3cret"], retry_after=9)
    deployment = live.until(lambda found: found.settings.retry_after == 9)
    assert deployment.settings.connect_timeout == 3
    assert deployment.secret == b"one"
    assert live.live.generation != generation, "another value was applied"
    errors = [entry.message for entry in caplog.records if entry.levelno == logging.ERROR]
    assert any(
        "template default" in line and "connect_timeout" in line and "'soon'" in line
        for line in errors
    )
    assert any("shared_secret" in line for line in errors)
    live.live.refresh()
    assert len(errors) == len(set(errors)) == 2, "each is logged once"
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("content", [b"not JSON", b"[]"])
def test_a_malformed_document_changes_nothing(
    live: Live, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    live.set(DEFAULT, enabled=True, retry_after=7)
    live.until(lambda found: found.enabled)
    replace(live.store, DEFAULT, lambda _: content)
    live.set(OWN, retry_after=8)
    assert live.until(lambda found: found.settings.retry_after == 8).enabled
    replace(live.store, OWN, lambda _: None)
    assert live.until(lambda found: found.settings.retry_after == 7).enabled
    assert "template default: it is not" in caplog.text


def test_the_content_of_files_is_what_workers_get(live: Live, tmp_path: Path) -> None:
    one, two = (Authority(tmp_path / name).certificate for name in ("one", "two"))
    live.set(DEFAULT, enabled=True, nova_ca_file=str(one))
    live.until(lambda found: found.settings.nova_ca == one.read_text())
    one.write_text(two.read_text())
    refreshed = live.live.refresh()
    assert refreshed
    assert refreshed.settings.nova_ca == two.read_text(), "a renewed file counts by itself"


def test_a_file_that_has_not_changed_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return read_file(path)

    monkeypatch.setattr("ovs_metadata.agent.config.live.read_file", counted)
    authority = Authority(tmp_path / "one").certificate
    os.utime(authority, (1000, 1000))
    store = open_store(f"directory:{tmp_path}/store")
    live = Live(store)
    try:
        live.set(DEFAULT, enabled=True, nova_ca_file=str(authority))
        live.until(lambda found: bool(found.settings.nova_ca))
        before = len(read)
        assert before
        assert live.live.refresh()
        assert len(read) == before
    finally:
        live.live.close()
        store.close()


def test_a_file_of_something_else_is_refused_by_its_key(
    live: Live, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("s3cret")
    live.set(DEFAULT, nova_ca_file=str(tmp_path / "ca.pem"), enabled=False)
    live.until(lambda _: "nova_ca_file" in caplog.text)
    assert "s3cret" not in caplog.text


def test_files_that_are_not_there_do_not_keep_it_from_being_disabled(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    live.set(DEFAULT, enabled=True, retry_after=7)
    live.until(lambda found: found.enabled)
    live.set(DEFAULT, nova_ca_file="/nonexistent/ca.pem", retry_after=8)
    live.set(OWN, shared_secret="new")
    live.until(lambda _: "nova_ca_file: /nonexistent/ca.pem: No such file" in caplog.text)
    deployment = live.until(lambda found: found.secret == b"new")
    assert deployment.settings.retry_after == 7, "settings change together or not at all"
    live.set(DEFAULT, enabled=False)
    live.until(lambda found: not found.enabled)


def test_secrets_are_not_logged(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    live.set(DEFAULT, enabled=True, shared_secret="s3cret")
    deployment = live.until(lambda found: found.enabled)
    assert f"{PREFIX}.shared_secret is now" in caplog.text
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(deployment)


def test_documents_written_by_hand_may_be_nested(live: Live) -> None:
    document = json.dumps({"agent": {"openstack": {"metadata": {"enabled": True}}}})
    replace(live.store, DEFAULT, lambda _: document.encode())
    live.until(lambda found: found.enabled)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (1024 * 1024 + 1)])
def test_what_is_no_pem_file_is_not_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DeploymentError, match=f"{path}.* (not a PEM file|more than)"):
        read_file(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "template default: it is not JSON"),
        (json.dumps({f"{PREFIX}.enabled": "yes"}).encode(), f"{PREFIX}.enabled must be"),
        (
            json.dumps({f"{PREFIX}.enabled": True, f"{PREFIX}.shared_secret": " s3cret "}).encode(),
            f"{PREFIX}.shared_secret must not begin or end with white space",
        ),
        (
            json.dumps(
                {f"{PREFIX}.enabled": True, f"{PREFIX}.nova_ca_file": "/nonexistent/ca.pem"}
            ).encode(),
            "nova_ca_file: /nonexistent/ca.pem: No such file",
        ),
    ],
)
def test_what_is_wrong_at_the_start_leaves_all_untouched_and_is_the_reason(
    live: Live, content: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    replace(live.store, DEFAULT, lambda _: content)
    live.live.close()
    live.live = LiveDeployment(live.store, HOST, live.changed.set)
    found: list[Deployment | None] = []

    def refreshed() -> bool:
        found.append(live.live.refresh())
        return problem in live.live.problem

    wait_for(refreshed, "the problem to be known")
    assert set(found) == {None}, "not disabled: no document has that"
    assert live.live.refresh() is None, "nor the next time"
    assert live.live.generation == ""
    assert problem in caplog.text
    assert "s3cret" not in live.live.problem + caplog.text
    replace(live.store, DEFAULT, lambda _: b"{}")
    assert not live.until(lambda _: True).enabled
    assert live.live.problem == ""


def test_a_template_that_cannot_be_read_when_it_is_assigned_changes_nothing(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    live.set(DEFAULT, enabled=True)
    live.until(lambda found: found.enabled)
    replace(live.store, config_template_path("big"), lambda _: b"{")
    live.assign("big")
    deployment = live.until(lambda _: "template big: it is not JSON" in caplog.text)
    assert deployment.enabled
    assert live.live.problem == "", "it is known what to do"
    live.assign(None)
    live.set(DEFAULT, retry_after=9)
    live.until_retry_after(9)


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(DeploymentError, match=f"{path}.*(not a regular file|Is a directory)"):
        read_file(path)
