"""`mn-conf` as a process, on both kinds of store."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.rig.zookeeper import ZooKeeper
from ovs_metadata.agent.config.schema import ENABLED, PREFIX, SHARED_SECRET

WRITERS = 6

MnConf = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=["directory", "zookeeper"])
def mn_conf(request: pytest.FixtureRequest, tmp_path: Path) -> MnConf:
    """Starts the command; the store is new."""
    if request.param == "directory":
        url = f"directory:{tmp_path}/store"
    else:
        zookeeper: ZooKeeper = request.getfixturevalue("zookeeper")
        url = f"{zookeeper.url}/mn-conf-{uuid.uuid4()}"
    config = tmp_path / "agent.conf"
    config.write_text(f"[store]\nurl = {url}\n[agent]\nhost = compute-1\n")

    def start(*args: str, stdin: str = "") -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "ovs_metadata.cli.mn_conf.command", "--config", config, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
        return process

    return start


def _done(process: "subprocess.Popen[str]", status: int = 0) -> str:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    return output


def test_a_deployment_is_configured(mn_conf: MnConf) -> None:
    text = f'{ENABLED} : true\n{PREFIX}.nova_metadata_url : "http://nova:8775"'
    _done(mn_conf("set", "-t", "default", stdin=text))
    _done(mn_conf("set", "-t", "default", "--secret-file", "-", stdin="s3cret\n"))
    _done(mn_conf("set", "-t", "slow", f"{PREFIX}.response_timeout : 5 minutes"))
    _done(mn_conf("template-set", "-h", "compute-2", "-t", "slow"))
    _done(mn_conf("set", f"{ENABLED} : false"))
    here = json.loads(_done(mn_conf("dump", "-j")))["agent"]["openstack"]["metadata"]
    assert here["enabled"] is False
    assert here["nova_metadata_url"] == "http://nova:8775"
    assert here["response_timeout"] == 60
    assert _done(mn_conf("get", "-h", "compute-2", f"{PREFIX}.response_timeout")) == "300.0\n"
    assert _done(mn_conf("get", "-h", "compute-2", ENABLED)) == "true\n"
    assert _done(mn_conf("get", "--show-secrets", SHARED_SECRET)) == "s3cret\n"
    assert "s3cret" not in _done(mn_conf("dump", "-c"))
    assert [each["host"] for each in json.loads(_done(mn_conf("hosts", "-j")))] == [
        *("compute-1", "compute-2"),
    ]
    _done(mn_conf("unset", ENABLED))
    assert _done(mn_conf("get", ENABLED)) == "true\n"
    _done(mn_conf("template-clear", "-h", "compute-2"))
    assert _done(mn_conf("template-get", "-a")) == ""
    _done(mn_conf("get", "no.such.key"), status=11)


def test_concurrent_writers_lose_no_update(mn_conf: MnConf) -> None:
    writers = [
        mn_conf("set", "--force", "-t", "default", f"writer.number{number} : {number}")
        for number in range(WRITERS)
    ]
    for writer in writers:
        _done(writer)
    written = json.loads(_done(mn_conf("get", "-j", "-t", "default")))["writer"]
    assert written == {f"number{number}": number for number in range(WRITERS)}


def test_a_store_that_does_not_answer(mn_conf: MnConf) -> None:
    _done(mn_conf("--store", "zookeeper://127.0.0.1:1", "dump"), status=3)
