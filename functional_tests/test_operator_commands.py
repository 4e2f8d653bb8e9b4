"""`ovs-metadata flows` and `ovs-metadata trace` tell how things are on a real hypervisor."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import Factory, close_hypervisor, make_hypervisor

from lab.rig.guest import Guest
from lab.rig.hypervisor import OURS, Hypervisor
from lab.rig.process import wait_for
from ovs_metadata.flows.tables import cookie

HOOKS = f"{OURS},table=0"


@dataclass(frozen=True)
class Result:
    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


def _run(hypervisor: Hypervisor, *arguments: str, **env: str) -> Result:
    # In no namespace: both commands work by UNIX sockets and files alone.
    command: list[str | Path] = [
        Path(sys.executable).parent / "ovs-metadata",
        "--config",
        hypervisor.config,
        *arguments,
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **env},
    )
    assert "Traceback" not in done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


def _flows(hypervisor: Hypervisor, *arguments: str) -> Any:
    result = _run(hypervisor, "flows", "--format", "json", *arguments)
    assert result.status == 0, result.stderr
    return result.document


def _trace(hypervisor: Hypervisor, status: int, *arguments: str) -> Any:
    result = _run(hypervisor, "trace", "--format", "json", *arguments)
    assert result.status == status, result.stderr or result.stdout
    return result.document


def _states(flows: Sequence[Any]) -> set[str]:
    return {flow["state"] for flow in flows}


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Hypervisor, Guest, Guest]]:
    """A hypervisor that serves two guests with the same addresses."""
    hypervisor = make_hypervisor()
    try:
        hypervisor.start()
        hypervisor.start_metadata_service()
        hypervisor.start_agent()
        guests = hypervisor.add_guest("one"), hypervisor.add_guest("two")
        for guest in guests:
            hypervisor.wait_until_served(guest)
        yield hypervisor, *guests
    finally:
        close_hypervisor(hypervisor)


def test_flows_shows_each_ports_flows_with_counters(
    running: tuple[Hypervisor, Guest, Guest],
) -> None:
    hypervisor, one, two = running
    assert one.identity() == one.instance_id
    document = _flows(hypervisor)
    assert _states(document["shared"]) == {"installed"}
    by_port = {port["port_id"]: port for port in document["ports"]}
    for guest in (one, two):
        port = by_port[guest.port_id]
        assert (port["instance"], port["interface"]) == (guest.instance_id, guest.tap)
        assert port["fixed_ips"] == [guest.ip]
        assert port["served"] is True
        assert _states(port["flows"]) == {"installed"}
        assert {flow["table"] for flow in port["flows"]} >= {0, 200, 204}
    (to_proxy,) = (
        flow
        for flow in by_port[one.port_id]["flows"]
        if (flow["table_name"], flow["priority"], flow["family"])
        == ("MetadataToProxy", 200, "IPv4")
    )
    assert to_proxy["packets"] > 0
    assert to_proxy["bytes"] > to_proxy["packets"]


def test_flows_is_complete(running: tuple[Hypervisor, Guest, Guest]) -> None:
    hypervisor, *_ = running
    document = _flows(hypervisor)
    listed = document["shared"] + [flow for port in document["ports"] for flow in port["flows"]]
    assert len([flow for flow in listed if flow["state"] == "installed"]) == len(
        hypervisor.static_flows()
    )


def test_one_port_alone_by_any_of_its_names(running: tuple[Hypervisor, Guest, Guest]) -> None:
    hypervisor, one, two = running
    for word in (one.port_id, one.instance_id, one.tap):
        document = _flows(hypervisor, word)
        assert document["shared"] == []
        assert [port["port_id"] for port in document["ports"]] == [one.port_id]
    document = _flows(hypervisor, one.ip)
    assert {port["port_id"] for port in document["ports"]} == {one.port_id, two.port_id}
    unknown = _run(hypervisor, "flows", "10.9.9.9")
    assert unknown.status == 2
    assert "no port with '10.9.9.9'" in unknown.stderr


def test_flows_for_people_fits_on_a_screen(running: tuple[Hypervisor, Guest, Guest]) -> None:
    hypervisor, one, _two = running
    result = _run(hypervisor, "flows", COLUMNS="100")
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 100
    assert f"Port {one.port_id}, interface {one.tap}" in result.stdout
    assert "from whatever source: to the proxy, at the port's address" in result.stdout


@pytest.mark.parametrize("family", ["--ipv4", "--ipv6"])
def test_trace_of_a_served_port_ends_right_both_ways(
    running: tuple[Hypervisor, Guest, Guest], family: str
) -> None:
    hypervisor, one, _two = running
    ofport = hypervisor.ovs.ofport(one.tap)
    document = _trace(hypervisor, 0, one.port_id, family)
    assert document["right"] is True
    request, answer = document["request"], document["answer"]
    expected = f"169.254.0.{ofport}" if family == "--ipv4" else f"fe80::a9fe:{ofport:x}"
    assert request["verdict"].startswith(f"goes to the proxy at {expected}, out of metadata port")
    assert answer["verdict"].startswith("goes to the instance as ")
    assert request["steps"][0]["does"].startswith("hook: a request for the service address")
    assert request["steps"][-1]["table_name"] == "MetadataToProxy"
    text = _run(hypervisor, "trace", one.port_id, family)
    assert text.status == 0
    assert f"The request {request['verdict']}." in text.stdout


def test_trace_leaves_nothing_behind(running: tuple[Hypervisor, Guest, Guest]) -> None:
    hypervisor, _one, two = running
    ofport = hypervisor.ovs.ofport(two.tap)
    before = hypervisor.flows_of(ofport)
    _trace(hypervisor, 0, two.port_id)
    assert hypervisor.flows_of(ofport) == before


def test_trace_of_an_ambiguous_word_asks_for_another(
    running: tuple[Hypervisor, Guest, Guest],
) -> None:
    hypervisor, one, two = running
    result = _run(hypervisor, "trace", one.ip)
    assert result.status == 2
    assert one.port_id in result.stderr
    assert two.port_id in result.stderr


def test_a_port_without_a_record(running: tuple[Hypervisor, Guest, Guest]) -> None:
    hypervisor, *_ = running
    guest = hypervisor.add_guest("unknown", record=False)
    hypervisor.ovs.ofport(guest.tap)
    try:
        document = _trace(hypervisor, 1, guest.tap)
        assert document["why_not"] == "there is no record of it"
        assert document["request"]["verdict"].startswith("is switched by NORMAL")
        assert "there is no record of it" in document["request"]["verdict"]
        assert document["answer"]["right"] is False
        (port,) = _flows(hypervisor, guest.instance_id)["ports"]
        assert (port["served"], port["flows"]) == (False, [])
    finally:
        guest.unplug(hypervisor.ovs)


def test_a_port_on_the_dead_vlan(running: tuple[Hypervisor, Guest, Guest]) -> None:
    hypervisor, _one, two = running
    ofport = hypervisor.ovs.ofport(two.tap)
    hypervisor.ovs.vsctl("set", "port", two.tap, "tag=4095")
    try:
        wait_for(lambda: not hypervisor.flows_of(ofport), "the end of its flows")
        document = _trace(hypervisor, 1, two.port_id)
        assert "dead VLAN" in document["why_not"]
        assert "dead VLAN" in document["request"]["verdict"]
    finally:
        hypervisor.ovs.vsctl("clear", "port", two.tap, "tag")
    hypervisor.wait_until_served(two)
    _trace(hypervisor, 0, two.port_id)


def test_an_instance_that_ovsdb_and_the_store_disagree_about(
    running: tuple[Hypervisor, Guest, Guest],
) -> None:
    hypervisor, one, two = running
    interface = ("set", "interface", two.tap)
    hypervisor.ovs.vsctl(*interface, f"external_ids:vm-uuid={one.instance_id}")
    try:
        document = _trace(hypervisor, 1, two.port_id)
        assert one.instance_id in document["why_not"]
        assert document["served"] is False
    finally:
        hypervisor.ovs.vsctl(*interface, f"external_ids:vm-uuid={two.instance_id}")


def test_a_deleted_hook_is_reported_while_nothing_restores_it(
    lab_hypervisor: Factory,
) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.start_agent()
    guest = hypervisor.add_guest("guest")
    hypervisor.wait_until_served(guest)
    with hypervisor.stopped_controller():
        ofport = hypervisor.ovs.ofport(guest.tap)
        mine = f"{HOOKS},tcp,in_port={ofport}"
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge, mine)
        stray = (
            f"cookie={cookie(ofport):#x},table=200,priority=300,tcp,in_port={ofport},"
            "dl_src=fa:16:3e:ff:ff:ff,nw_src=192.0.2.9"
        )
        hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, f"{stray} actions=drop")
        (port,) = _flows(hypervisor, guest.port_id)["ports"]
        (missing,) = (flow for flow in port["flows"] if flow["state"] == "missing")
        assert (missing["does"], missing["family"]) == (
            "hook: a request for the service address",
            "IPv4",
        )
        (unexpected,) = (flow for flow in port["flows"] if flow["state"] == "unexpected")
        assert f"in_port={ofport}" in unexpected["match"]
        shown = _run(hypervisor, "flows", guest.port_id).stdout
        assert "MISSING: hook: a request for the service address" in shown
        assert "UNEXPECTED: " in shown
        document = _trace(hypervisor, 1, guest.port_id)
        assert document["why_not"] is None
        assert "hook is missing" in document["request"]["verdict"]
        assert document["answer"]["right"] is True
        _trace(hypervisor, 0, guest.port_id, "--ipv6")
        blocked = f"cookie=0x77,table=0,priority=30000,tcp6,in_port={ofport} actions=drop"
        hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, blocked)
        document = _trace(hypervisor, 1, guest.port_id, "--ipv6")
        assert "a flow that is not ours takes it in table 0" in document["request"]["verdict"]


def test_without_open_vswitch_there_is_one_clear_line(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.ovs.kill_vswitchd()
    result = _run(hypervisor, "flows")
    assert result.status == 3
    assert f"{hypervisor.bridge}.mgmt" in result.stderr
    assert result.stderr.count("\n") == 1
    hypervisor.ovs.kill_ovsdb()
    for command in (["flows"], ["trace", "10.0.0.5"]):
        result = _run(hypervisor, *command)
        assert result.status == 3
        assert "unreachable" in result.stderr
        assert result.stderr.count("\n") == 1
