"""A fault of the configuration is one clear line, or the agent waits for its correction."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import Factory, close_hypervisor, make_hypervisor

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, wait_for


@pytest.fixture(scope="module")
def bare() -> Iterator[Hypervisor]:
    """A hypervisor without an agent."""
    hypervisor = make_hypervisor()
    try:
        hypervisor.start()
        yield hypervisor
    finally:
        close_hypervisor(hypervisor)


def _start(hypervisor: Hypervisor, **changes: Any) -> Process:
    hypervisor.configure(**changes)
    return _start_as_configured(hypervisor)


def _start_as_configured(hypervisor: Hypervisor) -> Process:
    hypervisor.root.joinpath("agent.log").unlink(missing_ok=True)
    return hypervisor.spawn("agent", *hypervisor.command("agent"))


def _refusal(agent: Process) -> str:
    """The one line of an agent that does not start; it is no traceback."""
    assert agent.wait(30) == 1
    log = agent.log.read_text()
    assert "Traceback" not in log
    complaints = [line for line in log.splitlines() if line.startswith("ovs-metadata-agent: ")]
    assert len(complaints) == 1
    return complaints[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"agent": {"host": "a/host"}}, "host"),
        ({"nova": {"metadata_url": "http://nova:8775"}}, "[nova]"),
        ({"store": {"url": "redis://store"}}, "redis://store"),
        ({"store": {"url": "directory:relative"}}, "relative"),
        ({"ovs": {"ovsdb_connection": "unix:/nonexistent/db.sock"}}, "/nonexistent/db.sock"),
        ({"proxy": {"user": "no-such-user"}}, "no-such-user"),
        ({"proxy": {"user": "root"}}, "root"),
        ({"proxy": {"workers": "many"}}, "workers"),
        ({"proxy": {"workers": "0"}}, "workers"),
        ({"flows": {"controller": "opendaylight"}}, "controller"),
    ],
)
def test_a_bad_value_is_refused_by_name(bare: Hypervisor, changes: Any, expected: str) -> None:
    assert expected in _refusal(_start(bare, **changes))


def test_a_store_of_an_unknown_version_is_refused(bare: Hypervisor, tmp_path: Path) -> None:
    version = tmp_path / "ovs_metadata/v2/version"
    version.parent.mkdir(parents=True)
    version.write_text("3")
    refusal = _refusal(_start(bare, store={"url": f"directory:{tmp_path}"}))
    assert "3" in refusal


def test_a_configuration_file_that_is_not_there(bare: Hypervisor) -> None:
    command = bare.command("agent")[0]
    agent = bare.spawn("no-file", command, "--config", "/nonexistent/agent.conf")
    assert "/nonexistent/agent.conf" in _refusal(agent)


def test_a_bridge_that_is_not_there_yet_is_waited_for(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor(bridge="br-late")
    hypervisor.start()
    hypervisor.ovs.vsctl("del-br", "br-late")
    hypervisor.start_metadata_service()
    agent = hypervisor.spawn("agent", *hypervisor.command("agent"))
    wait_for(lambda: "there is no bridge br-late" in agent.log.read_text(), "the log line")
    hypervisor.ovs.add_bridge("br-late")
    hypervisor.wait_until_serving()
    guest = hypervisor.add_guest("guest")
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id


def test_a_zookeeper_that_is_not_there_yet_is_waited_for(bare: Hypervisor) -> None:
    agent = _start(bare, store={"url": "zookeeper://127.0.0.1:1"})
    wait_for(
        lambda: "waiting for the deployment's configuration" in agent.log.read_text(),
        "the agent to wait",
    )
    assert bare.flows() == ""
    assert agent.alive()
    assert "Traceback" not in agent.log.read_text()
    agent.stop()
