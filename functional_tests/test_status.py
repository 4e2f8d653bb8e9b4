"""A real host at a glance: the command, the list of ports, and the page in a real browser."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.rig import browser
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, stopped_process, wait_for

PAGE = "http://127.0.0.1:9775/"

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def host(two_workers: tuple[Hypervisor, Guest]) -> tuple[Hypervisor, Guest]:
    """A hypervisor with two workers and a guest that has asked thrice, in vain once."""
    hypervisor, guest = two_workers
    assert guest.identity() == guest.instance_id
    assert guest.curl("/nothing")[0] == 404
    wait_for(lambda: agent_status(hypervisor).get("requests") == 3, "the workers' reports", 15)
    # The flow controller reports once a second, and the case before may have taken its bridge away.
    wait_for(lambda: agent_status(hypervisor).get("ready"), "the host to be ready", 15)
    return hypervisor, guest


def agent_status(hypervisor: Hypervisor) -> dict[str, Any]:
    """What the admin listener says; empty if it does not answer."""
    command = ("ip", "netns", "exec", hypervisor.namespace, "curl", "--silent", f"{PAGE}status")
    return dict(json.loads(run(*command, check=False) or "{}"))


def fetched(hypervisor: Hypervisor) -> str:
    """The page's source."""
    return run("ip", "netns", "exec", hypervisor.namespace, "curl", "--silent", PAGE)


def command(hypervisor: Hypervisor, *arguments: str, config: Path | None = None) -> tuple[int, str]:
    """Run `ovs-metadata` on the host; its exit status and what it printed."""
    done = subprocess.run(
        [
            *("ip", "netns", "exec", hypervisor.namespace),
            Path(sys.executable).parent / "ovs-metadata",
            *("--config", config or hypervisor.config),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "250"},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def status(hypervisor: Hypervisor, expected: int) -> dict[str, Any]:
    code, text = command(hypervisor, "status", "--format", "json")
    assert code == expected, text
    return dict(json.loads(text))


def test_status_with_the_agent_up_and_down(host: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _ = host
    agent = hypervisor.processes["agent"]
    well = status(hypervisor, 0)
    assert (well["serving"], well["problems"], well["warnings"]) == (True, [], [])
    assert well["agent_pid"] == agent.pid
    assert well["ports"] == {"served": 1, "pending": 0, "refused": 0}
    assert well["metadata_ofport"] > 0
    assert well["agent"]["requests"] == 3
    assert {each["url"] for each in well["agent"]["endpoints"]} == {hypervisor.nova}
    children = {each["name"]: each for each in well["agent"]["children"]}
    assert children.keys() == {"flow controller", "proxy worker 0", "proxy worker 1"}
    assert all(each["running"] for each in children.values())
    pids = {each["pid"] for each in children.values()}
    assert set(hypervisor.children().values()) <= pids

    lonely = hypervisor.add_guest("lonely", record=False)
    wait_for(lambda: status(hypervisor, 0)["ports"]["pending"] == 1, "the port to be pending", 15)
    (why,) = status(hypervisor, 0)["not_served"]
    assert (why["port_id"], why["why_not"]) == (lonely.port_id, "there is no record of it")

    agent.stop()
    down = status(hypervisor, 1)
    assert (down["serving"], down["agent"], down["agent_pid"]) == (False, None, None)
    assert down["ports"] == {"served": 1, "pending": 1, "refused": 0}
    assert "the agent is not running" in down["problems"][0]
    text = command(hypervisor, "status")[1]
    assert "NOT SERVING" in text
    assert "1 served, 1 pending, 0 refused, if the agent ran" in text


def test_an_agent_that_does_nothing_does_not_serve(host: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _ = host
    agent = hypervisor.processes["agent"]
    with stopped_process(agent.pid):
        found = status(hypervisor, 1)
    (problem,) = found["problems"]
    assert f"pid {agent.pid} is stopped" in problem
    assert found["agent_pid"] == agent.pid


def test_a_host_whose_ovsdb_server_does_nothing_does_not_serve(
    host: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, _ = host

    def state() -> object:
        return agent_status(hypervisor).get("state")

    with stopped_process(hypervisor.ovs.ovsdb_pid):
        wait_for(lambda: state() == "not serving", "the agent to notice", 60)
        (problem,) = agent_status(hypervisor)["problems"]
        assert "OVSDB does not answer the agent" in problem
    wait_for(lambda: state() == "ready", "the agent to notice the end", 60)


def test_a_host_whose_ovs_vswitchd_does_nothing_is_not_ready(
    host: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, _ = host

    def state() -> object:
        return agent_status(hypervisor).get("state")

    with stopped_process(hypervisor.ovs.vswitchd_pid):
        wait_for(lambda: state() == "not ready", "the agent to notice", 90)
        (problem,) = agent_status(hypervisor)["problems"]
        assert "the flow controller has no connection to bridge br-int" in problem
    wait_for(lambda: state() == "ready", "the agent to notice the end", 90)


def test_without_an_answer_the_processes_tell(host: tuple[Hypervisor, Guest]) -> None:
    """The agent has to answer; if it does not, workers and controller are looked at."""
    hypervisor, _ = host
    children = hypervisor.children()
    place = hypervisor.root / "state" / "admin.sock"
    elsewhere = place.with_name("elsewhere.sock")
    place.rename(elsewhere)
    try:
        found = status(hypervisor, 1)
        assert f"does not answer: no agent answers at {place}" in found["problems"][0]
        assert found["enabled"] is True
        for name, problem in (
            ("ovs_metadata.proxy.main", "A proxy worker is stopped"),
            ("ovs_metadata.flows.launcher", "The flow controller is stopped"),
        ):
            with stopped_process(children[name]):
                assert problem in status(hypervisor, 1)["problems"][0]
    finally:
        elsewhere.rename(place)


def test_status_of_a_host_that_is_disabled(host: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _ = host
    hypervisor.deploy(enabled=False)
    wait_for(lambda: agent_status(hypervisor).get("enabled") is False, "the agent to know", 15)

    def without_flows() -> dict[str, Any]:
        code, text = command(hypervisor, "status", "--format", "json")
        found: dict[str, Any] = json.loads(text)
        return found if code == 1 and "has no flows" in found["problems"][0] else {}

    found = wait_for(without_flows, "all flows to be deleted", 20)
    assert found["enabled"] is False
    assert found["agent"]["children"] == []


def test_port_list_shows_who_asked_and_what_they_got(host: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = host
    elsewhere = hypervisor.add_guest("elsewhere", plug=False)
    code, text = command(hypervisor, "port", "list", "--format", "json")
    assert code == 0
    found = {each["port_id"]: each for each in json.loads(text)}
    assert "here" not in found[elsewhere.port_id]
    here = found[guest.port_id]["here"]
    assert here["ofport"] == hypervisor.ovs.ofport(guest.tap)
    assert hypervisor.port_address(guest) in here["addresses"]
    assert (here["requests"], here["last_status"]) == (3, 404)
    assert found[guest.port_id]["device_id"] == guest.instance_id
    table = command(hypervisor, "port", "list", "--here")[1]
    assert guest.instance_id in table
    assert guest.ip in table
    assert elsewhere.port_id not in table


def test_the_page_in_a_browser(host: tuple[Hypervisor, Guest], tmp_path: Path) -> None:
    hypervisor, guest = host
    # The pictures begin with the second sample.
    wait_for(lambda: agent_status(hypervisor).get("recent"), "the first interval", 15)
    seen = browser.look(PAGE, hypervisor.namespace)
    assert seen.console == []  # nothing was missing, refused by the policy, or wrong
    assert number(seen, "served") == "1"
    assert number(seen, "requests") == "3"
    assert number(seen, "workers") == "2"
    assert "serving metadata" in number(seen, "state")
    (row,) = re.findall(rf"<tr><td class=\"id\">{guest.port_id}</td>.*?</tr>", seen.dom, re.DOTALL)
    for shown in (guest.instance_id, guest.ip, hypervisor.port_address(guest), ">3<", ">404<"):
        assert shown in row
    assert f">{hypervisor.nova}</td>" in seen.dom
    assert seen.dom.count("<svg") == 2
    assert 'class="line requests"' in seen.dom

    for name, dark in (("light", False), ("dark", True)):
        path = tmp_path / f"{name}.png"
        browser.screenshot(PAGE, hypervisor.namespace, path, dark=dark)
        assert path.read_bytes().startswith(PNG)
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()


def test_the_page_tells_of_trouble(host: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = host
    hypervisor.processes["metadata-service"].stop()
    for _ in range(4):
        assert guest.curl()[0] == 503
    wait_for(lambda: agent_status(hypervisor).get("requests") == 7, "the workers' reports", 15)
    hypervisor.ovs.vsctl("del-br", hypervisor.bridge)
    wait_for(lambda: agent_status(hypervisor).get("ready") is False, "the agent to notice", 15)
    # The page counts failures by its history, which is up to five seconds old.
    row = re.compile(r"<td>503</td><td>no endpoint</td><td class=\"number\">4</td>")
    wait_for(lambda: row.search(fetched(hypervisor)), "a sample with all failures", 15)
    seen = browser.look(PAGE, hypervisor.namespace)
    assert "not serving metadata" in number(seen, "state")
    assert "there is no bridge" in seen.dom
    assert row.search(seen.dom)
    assert "failing for" in seen.dom
    assert seen.console == []


def number(seen: browser.Seen, element: str) -> str:
    """The text of the element with that id."""
    (text,) = re.findall(rf'id="{element}"[^>]*>([^<]*)<', seen.dom)
    return str(text)
