"""The deployment's configuration is applied while guests ask, on the whole path."""

import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory, OnZooKeeper

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, run, wait_for
from ovs_metadata.host.address import METADATA_PORT

PREFIX = "agent.openstack.metadata"

PROMISED = 1.0
"""Seconds in which a change is applied, as docs/configuration.md promises."""

PATIENCE = 60.0
"""Seconds that an agent may take to start or to stop on a busy machine."""

MARGIN = 2.0
"""More seconds, for what is none of the agent's doing: the guest's curl, which is started in its
namespace for each look, and other tests that keep the machine's few processors busy."""


@contextmanager
def _asking(guest: Guest) -> Iterator[list[str | None]]:
    """Make the guest ask who it is, all the time; yields the answers."""
    answers: list[str | None] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            answers.append(guest.identity())

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield answers
        now = len(answers)
        wait_for(lambda: len(answers) > now + 2, "answers after the last change")
    finally:
        enough.set()
        asker.join(30)


def _metadata_service(hypervisor: Hypervisor, port: int, secret: str) -> Process:
    """Another metadata service, about the same guests."""
    secret_file = hypervisor.root / f"secret-{port}"
    secret_file.write_text(secret)
    service = hypervisor.spawn(
        f"metadata-service-{port}",
        *(sys.executable, "-m", "lab.stand_ins.metadata_service", "--listen", f"127.0.0.1:{port}"),
        *("--instances", hypervisor.root / "instances.json", "--secret-file", secret_file),
        PYTHONPATH=str(Path(__file__).parents[1] / "tools"),
    )
    wait_for(lambda: "instances at" in service.log.read_text(), "the metadata service")
    return service


def _wait_for_log(hypervisor: Hypervisor, *words: str) -> None:
    """Wait until the agent has logged a line with all of these words."""
    log = hypervisor.processes["agent"].log
    wait_for(
        lambda: any(all(word in line for word in words) for line in log.read_text().splitlines()),
        f"the agent to say {words}",
        PATIENCE,
    )


def _traces(hypervisor: Hypervisor) -> dict[str, str]:
    """What the host has of the agent."""
    bridge = hypervisor.bridge
    found = {
        "flows": hypervisor.flows(),
        "ports": " ".join(
            name
            for name in hypervisor.ovs.vsctl("list-ports", bridge).split()
            if name == METADATA_PORT
        ),
        "table names": hypervisor.ovs.vsctl("get", "bridge", bridge, "flow_tables").strip("{}\n "),
        "namespace": str(Path("/run/netns", hypervisor.metadata_namespace).exists() or ""),
        "children": " ".join(hypervisor.children()),
    }
    return {what: there for what, there in found.items() if there}


def test_a_new_url_costs_no_request(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    children = hypervisor.children()
    other = _metadata_service(hypervisor, 8776, hypervisor.secret)
    with _asking(guest) as answers:
        hypervisor.deploy(nova_metadata_url="http://127.0.0.1:8776")
        _wait_for_log(hypervisor, "nova_metadata_url is now", "8776")
        wait_for(lambda: len(answers) > 5, "answers")
        now = len(answers)
        hypervisor.processes["metadata-service"].stop()
        wait_for(lambda: len(answers) > now + 5, "answers by the other service")
        assert other.alive()
    assert set(answers) == {guest.instance_id}
    assert hypervisor.children() == children, "nothing was started again"


def test_a_rotated_secret_signs_at_once(serving: tuple[Hypervisor, Guest]) -> None:
    """Nova has the new secret at another address; in a deployment it is restarted with it."""
    hypervisor, guest = serving
    children = hypervisor.children()
    _metadata_service(hypervisor, 8776, "the-new-secret")
    with _asking(guest) as answers:
        hypervisor.deploy(nova_metadata_url="http://127.0.0.1:8776", shared_secret="the-new-secret")
        _wait_for_log(hypervisor, "nova_metadata_url is now", "8776")
        now = len(answers)
        wait_for(lambda: len(answers) > now + 5, "answers")
    assert set(answers[now + 2 :]) == {guest.instance_id}
    hypervisor.deploy(shared_secret="not that of Nova")
    wait_for(lambda: guest.curl("/openstack")[0] == 403, "signatures that Nova refuses")
    assert hypervisor.children() == children, "nothing was started again"
    for log in hypervisor.root.glob("*.log"):
        assert "the-new-secret" not in log.read_text()
        assert "not that of Nova" not in log.read_text()


def test_a_limit_counts_from_the_next_request_on(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    hypervisor.deploy(max_body=10)
    wait_for(
        lambda: guest.curl("/openstack/latest/password", "--data", "x" * 11)[0] == 413,
        "a body to be too large",
    )
    hypervisor.deploy(max_body=None)
    wait_for(
        lambda: guest.curl("/openstack/latest/password", "--data", "x" * 11)[0] not in {0, 413},
        "a body not to be too large",
    )


@pytest.mark.alone
@pytest.mark.parametrize("store", ["directory", "zookeeper"])
def test_a_change_is_applied_as_soon_as_is_promised(
    request: pytest.FixtureRequest, store: str
) -> None:
    """Measured from before the write to the first answer of a worker that has applied it."""
    if store == "directory":
        hypervisor, guest = request.getfixturevalue("serving")
    else:
        there: OnZooKeeper = request.getfixturevalue("on_zookeeper")
        hypervisor, guest = there.hypervisor, there.guest
    seconds = []
    for largest in (10, 1000) * 3:
        started = time.monotonic()
        hypervisor.deploy(max_body=largest)
        wait_for(partial(_takes, guest, largest), f"max_body to be {largest}")
        seconds.append(time.monotonic() - started)
    assert max(seconds) < PROMISED + MARGIN, seconds


def _takes(guest: Guest, largest: int) -> bool:
    """Whether a worker takes bodies up to that size, of 100 bytes or not; asks one."""
    status, _ = guest.curl("/openstack/latest/password", "--data", "x" * 100)
    assert status, "no answer"
    return (status == 413) is (largest < 100)


def test_disabled_leaves_no_trace_and_enabled_brings_all_back(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    agent = hypervisor.processes["agent"]
    flows = hypervisor.static_flows()
    pid = agent.pid
    hypervisor.deploy(enabled=False)
    wait_for(lambda: not _traces(hypervisor), "every trace to go", PATIENCE)
    _wait_for_log(
        hypervisor,
        "disabled by template default: the agent has no flows, port or namespace on this host",
    )

    # Neutron's own path, for example: a port of the guest's network that answers there.
    neutrons = hypervisor.add_guest(
        "neutron", record=False, mac="fa:16:3e:99:99:99", address="169.254.169.254/16"
    )
    neutrons.run("ip", "route", "add", guest.ip, "dev", "eth0")
    echo = Process(
        (sys.executable, "-m", "http.server", "80"),
        hypervisor.root / "neutron.log",
        {},
        neutrons.name,
    )
    hypervisor.processes["neutron"] = echo
    # It would find out by itself, some 10 s later.
    guest.run("ip", "neigh", "flush", "dev", "eth0")
    wait_for(lambda: guest.curl("/", "--max-time", "1")[0] == 200, "Neutron's own answer")
    echo.stop()

    hypervisor.deploy(enabled=True)
    hypervisor.wait_until_serving()
    hypervisor.wait_until_served(guest)
    wait_for(lambda: guest.identity("--max-time", "1") == guest.instance_id, "an answer")
    assert agent.pid == pid
    assert hypervisor.processes["agent"].alive()
    neutrons.unplug(hypervisor.ovs)
    wait_for(lambda: len(hypervisor.static_flows()) == len(flows), "all flows")


def test_a_host_that_is_not_enabled_is_not_touched(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start("protocols=OpenFlow10,OpenFlow14")
    hypervisor.deploy(enabled=None)
    before = hypervisor.ovs.vsctl("list", "bridge", hypervisor.bridge)
    hypervisor.spawn("agent", *hypervisor.command("agent"))
    _wait_for_log(hypervisor, "to enable all hosts: mn-conf set -t default 'agent.openstack")
    assert hypervisor.ovs.vsctl("list", "bridge", hypervisor.bridge) == before
    assert not Path("/run/netns", hypervisor.metadata_namespace).exists()
    assert hypervisor.children() == {}


def test_disabled_while_the_agent_was_away(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _guest = serving
    hypervisor.processes["agent"].stop()
    assert hypervisor.flows(), "stopping leaves the flows"
    hypervisor.deploy(enabled=False)
    hypervisor.spawn("agent", *hypervisor.command("agent"))
    wait_for(lambda: not _traces(hypervisor), "every trace to go", PATIENCE)


def test_a_bad_value_is_ignored_and_named(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    hypervisor.deploy(nova_metadata_url="gopher://nova", retry_after=2)
    _wait_for_log(hypervisor, "ERROR", "template default", "nova_metadata_url", "gopher://nova")
    _wait_for_log(hypervisor, "retry_after is now 2")
    assert guest.identity() == guest.instance_id
    wait_for(
        lambda: "gopher" in str(_announced(hypervisor).get("last_error")),
        "the agent to announce its last error",
    )
    hypervisor.deploy(nova_metadata_url=hypervisor.nova)
    _wait_for_log(hypervisor, "configuration: all problems are solved")
    assert guest.identity() == guest.instance_id


def test_an_agent_says_how_it_is_and_that_it_is_no_more(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, _guest = serving
    key = f"{PREFIX}.retry_after"

    def is_up_to_date() -> bool:
        announced = _announced(hypervisor)
        return bool(announced and announced["up_to_date"] and announced["ports_served"] == 1)

    # On the bridge, with records, and not served for all that: no guest is served as another.
    hypervisor.put(hypervisor.add_guest("other", record=False), device_id=str(uuid.uuid4()))
    hypervisor.put(hypervisor.add_guest("bare", record=False), fixed_ips=[])
    wait_for(
        lambda: _ports(hypervisor) == {"served": 1, "pending": 2, "refused": 0},
        "the two ports to be known",
    )
    run(*hypervisor.mn_conf("set", "-t", "default", f"{key} : 7"))
    wait_for(is_up_to_date, "the announcement")
    announced = _announced(hypervisor)
    assert announced["alive"]
    assert announced["enabled"]
    assert announced["bridge"] == hypervisor.bridge
    assert run(*hypervisor.mn_conf("get", "-h", hypervisor.prefix, key)) == "7\n"
    hypervisor.processes["agent"].stop()
    assert not _announced(hypervisor)["alive"]
    assert _announced(hypervisor)["ports_served"] == 1


def _ports(hypervisor: Hypervisor) -> dict[str, int]:
    """How many ports the agent counts as what."""
    command = [_ovs_metadata(hypervisor)[0], "--config", hypervisor.config, "status", "--format"]
    inside = ("ip", "netns", "exec", hypervisor.namespace)
    return dict(json.loads(run(*inside, *command, "json", check=False))["ports"] or {})


def _announced(hypervisor: Hypervisor) -> dict[str, object]:
    """What `agent list` shows of the one agent there is; empty before it has announced itself."""
    found = json.loads(run(*_ovs_metadata(hypervisor, "agent", "list", "--format", "json")))
    assert [each["host"] for each in found] in ([], [hypervisor.prefix])
    return dict(found[0]) if found else {}


def _ovs_metadata(hypervisor: Hypervisor, *args: str) -> list[str | Path]:
    command = Path(sys.executable).parent / "ovs-metadata"
    return [command, "--store", hypervisor.store_url, *args]


def test_with_zookeeper_and_without_it_for_a_while(on_zookeeper: OnZooKeeper) -> None:
    hypervisor, guest = on_zookeeper.hypervisor, on_zookeeper.guest
    for seconds in ("2", "3"):
        text = f"{PREFIX}.retry_after : {seconds}"
        run(*hypervisor.mn_conf("set", "-t", f"template-{seconds}", text))
        run(*hypervisor.mn_conf("template-set", "-t", f"template-{seconds}"))
        _wait_for_log(hypervisor, f"retry_after is now {seconds}")
    run(*hypervisor.mn_conf("set", "-t", "template-3", f"{PREFIX}.retry_after : 4"))
    _wait_for_log(hypervisor, "retry_after is now 4")

    on_zookeeper.zookeeper.kill()
    assert guest.identity() == guest.instance_id
    hypervisor.processes["agent"].stop()
    hypervisor.processes["agent"].log.unlink()
    hypervisor.start_agent()
    wait_for(
        lambda: guest.identity("--max-time", "1") == guest.instance_id,
        "the guest to be served by what was known before",
        30,
    )
    _wait_for_log(hypervisor, "retry_after is now 4")

    on_zookeeper.zookeeper.start()
    hypervisor.close_store()
    run(*hypervisor.mn_conf("template-clear"))
    _wait_for_log(hypervisor, "retry_after is now 1")
    assert guest.identity() == guest.instance_id


def test_two_agents_on_one_open_vswitch_do_not_undo_each_other(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    # It has another state directory, and a store where nothing is enabled.
    config, log = hypervisor.root / "second.conf", hypervisor.root / "second.log"
    config.write_text(
        hypervisor.config.read_text()
        .replace(f"{hypervisor.root}/state", f"{hypervisor.root}/second")
        .replace(hypervisor.store_url, f"directory:{hypervisor.root}/second-store")
    )
    command = [
        config if part == hypervisor.config else part for part in hypervisor.command("agent")
    ]
    second = Process(command, log, {})
    try:
        wait_for(lambda: "another ovs-metadata-agent works on" in log.read_text(), "its refusal")
        assert guest.identity() == guest.instance_id
    finally:
        second.stop()
