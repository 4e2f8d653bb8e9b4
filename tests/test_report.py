"""The report: what is taken out of texts, programs that hang or chatter, and the archive."""

import base64
import json
import os
import stat
import sys
import tarfile
import time
from pathlib import Path

import pytest

from lab.rig.process import wait_for
from ovs_metadata.agent.config.schema import SHARED_SECRET
from ovs_metadata.cli.report.archive import Archive
from ovs_metadata.cli.report.bounded_run import bounded_run
from ovs_metadata.cli.report.known_secrets import (
    of_auth_file,
    of_snapshot,
    of_text,
    of_variables,
    variables,
)
from ovs_metadata.cli.report.redaction import REMOVED, Redactor

KNOWN = 'k"nown ségret/+1'
UNKNOWN = "7hunter2"


def clean(text: str) -> str:
    return Redactor([KNOWN]).clean(text)


@pytest.mark.parametrize(
    "form",
    [
        KNOWN,
        json.dumps(KNOWN),
        repr(KNOWN),
        KNOWN.encode().hex(),
        base64.b64encode(KNOWN.encode()).decode(),
        base64.b64encode(b"user:" + KNOWN.encode()).decode(),
        "k%22nown%20s%C3%A9gret/%2B1",
    ],
)
def test_a_known_secret_is_removed_in_each_notation(form: str) -> None:
    cleaned = clean(f"before {form} after")
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")
    assert REMOVED in cleaned
    assert form.strip("\"'") not in cleaned


@pytest.mark.parametrize(
    "text",
    [
        f"password={UNKNOWN}",
        f"password: {UNKNOWN} with words",
        f'{{"admin_password": "{UNKNOWN}", "port": 80}}',
        f'{{"a-secret": "quoted \\"{UNKNOWN}"}}',
        f"{{os-password={UNKNOWN}, system-id=x}}",
        f"# shared_secret = '{UNKNOWN}'",
        f"agent.openstack.metadata.shared_secret : {UNKNOWN}",
        f"x-instance-id-signature: {UNKNOWN}",
        f"X-Auth-Token: {UNKNOWN}",
        f"Authorization: Basic {UNKNOWN}",
        f"amqp://nova:{UNKNOWN}@controller:5672/",
        f"digest:agents:{UNKNOWN * 4}=",
        f"-----BEGIN PRIVATE KEY-----\n{UNKNOWN}\n-----END PRIVATE KEY-----",
        f"-----BEGIN EC PRIVATE KEY-----\n{UNKNOWN}",
        f"PASSWD={UNKNOWN}",
    ],
)
def test_what_looks_like_a_secret_is_removed(text: str) -> None:
    assert UNKNOWN not in clean(text)
    assert REMOVED in clean(text)


def test_a_signature_is_removed() -> None:
    assert "ab" * 32 not in clean(f"for instance 1: {'ab' * 32}")


@pytest.mark.parametrize(
    "text",
    [
        "cookie=0x6f76735f00000005, table=0, priority=20000, tcp actions=resubmit(,200)",
        "error: secret-refused http://controller:8775",
        "zookeeper_auth_file = /etc/ovs-metadata/credentials",
        "tokens : optional",
        "40ab441b-c21d-4c9c-b0af-6a8fc48ab733",
        "http://controller:8775/openstack/latest/meta_data.json",
        "fa:16:3e:00:00:01 fe80::a9fe:a9fe",
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert clean(text) == text


def test_a_short_secret_is_not_looked_for() -> None:
    assert Redactor(["", "a", " ab "]).clean("a tab") == "a tab"


def test_secrets_of_this_host_are_found_where_they_are() -> None:
    assert f"{UNKNOWN}, it is" in set(of_text(f"[nova]\nshared_secret = {UNKNOWN}, it is\n"))
    assert set(of_text("workers = 2\nzookeeper_auth_file = /x")) == set()
    assert set(of_auth_file("agents:pass\n")) == {"agents:pass", "pass"}
    assert list(of_auth_file("")) == []
    environment = variables(b"HOME=/root\0OS_PASSWORD=" + UNKNOWN.encode() + b"\0")
    assert list(of_variables(environment)) == [UNKNOWN]
    document = json.dumps({SHARED_SECRET: UNKNOWN, "other": 1}).encode()
    nodes = {"/a": base64.b64encode(document).decode(), "/b": None, "/c": "AAAA"}
    assert list(of_snapshot(json.dumps({"nodes": nodes}).encode())) == [UNKNOWN]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"nodes": {"/a": "?"}}', b'{"nodes": 3}'])
def test_a_snapshot_that_cannot_be_read_has_none(data: bytes) -> None:
    assert list(of_snapshot(data)) == []


def run(program: str, *, seconds: float = 20, size: int = 1000) -> tuple[bytes, str, bool]:
    found = bounded_run([sys.executable, "-c", program], seconds=seconds, size=size)
    return found.data, found.ended, found.is_cut


def test_a_program_is_read_to_its_end_with_its_errors() -> None:
    assert run("import sys; print('out', flush=True); sys.exit('why')") == (
        b"out\nwhy\n",
        "exit status 1",
        False,
    )


def test_a_program_that_chatters_is_cut_and_ended() -> None:
    data, ended, is_cut = run("while True: print('x' * 99)")
    assert (len(data), ended, is_cut) == (1000, "", True)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_program_that_hangs_is_ended_with_its_children() -> None:
    begun = time.monotonic()
    program = "import os, time; print(os.fork(), flush=True); time.sleep(100)"
    data, ended, _ = run(program, seconds=1)
    assert ended == "no end after 1 s"
    assert time.monotonic() - begun < 50
    (child,) = (int(pid) for pid in data.split() if int(pid))
    # The kernel carries the signal out when the child next runs.
    wait_for(lambda: _has_ended(child), "the program's child to end")


def test_a_program_that_is_not_there_is_named() -> None:
    assert bounded_run(["no-such-program"], seconds=1, size=1).ended == (
        "no-such-program is not installed"
    )


def test_the_archive_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"
    path.write_text("older")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        with Archive(path, "top") as archive:
            archive.add("a.txt", b"content")
            assert path.read_text() == "older"
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as opened:
        (entry,) = opened.getmembers()
        assert (entry.name, entry.mode) == ("top/a.txt", 0o600)
        file = opened.extractfile(entry)
        assert file
        assert file.read() == b"content"
    assert os.listdir(tmp_path) == ["report.tar.gz"]


def _fail_within(archive: Archive) -> None:
    with archive:
        archive.add("a.txt", b"content")
        raise RuntimeError


def test_an_archive_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        _fail_within(Archive(tmp_path / "report.tar.gz", "top"))
    assert os.listdir(tmp_path) == []
