"""`ovs-metadata flows` and `trace`: what they print of a host, and with which exit status."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from contracts.store_support import record

from ovs_metadata.cli import flows, trace
from ovs_metadata.cli.host_view import Host
from ovs_metadata.cli.main import main
from ovs_metadata.cli.port_status import port_statuses
from ovs_metadata.flows.desired import desired_flows
from ovs_metadata.flows.dump import DumpedFlow
from ovs_metadata.flows.meters import MeterRoom
from ovs_metadata.flows.tables import cookie
from ovs_metadata.flows.values import FlowKey, Match
from ovs_metadata.flows.vswitchd import VswitchdError
from ovs_metadata.host.config import load
from ovs_metadata.host.join import Interface, Records, by_name, join_ports
from ovs_metadata.host.ovsdb import Bridge, MetadataPort

ONE = replace(record(1), fixed_ips=("10.0.0.5",))
TWO = replace(record(2), fixed_ips=("2001:db8::6",), mac_address="fa:16:3e:00:00:02")
THREE, FOUR = record(3), replace(record(4), fixed_ips=ONE.fixed_ips)
INTERFACES = (
    Interface("tap1", 5, iface_id=ONE.port_id),
    Interface("tap2", 6, iface_id=TWO.port_id, vm_uuid=TWO.device_id),
    Interface("tap3", 7, iface_id=THREE.port_id, vm_uuid=THREE.device_id),
    Interface("tap4", None, iface_id=FOUR.port_id),
)
METERS = MeterRoom(1 << 18)
RECORDS: Records = {ONE.port_id: ONE, TWO.port_id: TWO, THREE.port_id: None, FOUR.port_id: FOUR}

NOBODYS = DumpedFlow(FlowKey(200, 300, Match.of(in_port=9)), cookie(9), 1, 60)

# What ofproto/trace prints.
REQUEST = """\
Flow: tcp,in_port=5,nw_src=10.0.0.5,nw_dst=169.254.169.254,tp_dst=80

bridge("br-int")
----------------
 0. tcp,in_port=5,nw_dst=169.254.169.254,tp_dst=80, priority 20000, cookie {cookie:#x}
    goto_table:200
200. tcp,in_port=5, priority 300, cookie {cookie:#x}
    output:1

Final flow: tcp,in_port=5,nw_src=10.0.0.5,nw_dst=169.254.0.5,tp_dst=9699
"""
ANSWER = """\
Flow: tcp,in_port=1,nw_src=169.254.0.5,nw_dst=10.0.0.5,tp_src=9699

bridge("br-int")
----------------
 0. in_port=1, priority 20000, cookie {shared:#x}
    goto_table:201
201. tcp,nw_dst=169.254.0.5, priority 300, cookie {cookie:#x}
    output:5

Final flow: tcp,in_port=1,nw_src=169.254.169.254,nw_dst=10.0.0.5,tp_src=80,\
dl_dst=fa:16:3e:00:00:01
"""
NOWHERE = "Flow: tcp\n\n 0. No match.\n    drop\n\nFinal flow: unchanged\n"


@dataclass
class Switch:
    """What the switch holds, and prints of a packet that is traced."""

    flows: list[DumpedFlow]
    traces: list[str]
    error: Exception | None = None

    def dump(self, *_: object) -> list[DumpedFlow]:
        if isinstance(self.error, OSError):
            raise self.error
        return self.flows

    def ask(self, *_: object) -> str:
        if isinstance(self.error, VswitchdError):
            raise self.error
        return self.traces.pop(0)


@pytest.fixture
def switch() -> Switch:
    host_ports = join_ports(INTERFACES, RECORDS)
    desired = desired_flows(load().flows, 1, host_ports, METERS)
    dumped = [
        DumpedFlow(key, flow.cookie, packets=number, octets=60 * number)
        for number, (key, flow) in enumerate(desired.items())
    ]
    texts = [each.format(cookie=cookie(5), shared=cookie()) for each in (REQUEST, ANSWER)]
    return Switch(dumped, texts)


@pytest.fixture
def run(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command on a host whose metadata port is as given."""

    def run(*arguments: str, metadata_port: MetadataPort | None = USED) -> Result:
        bridge = Bridge("br-int", interfaces=by_name(INTERFACES), metadata_port=metadata_port)
        host_ports = join_ports(INTERFACES, RECORDS)
        statuses = port_statuses(INTERFACES, RECORDS, host_ports)
        host = Host(load(), bridge, host_ports, statuses)
        for command in (flows, trace):
            monkeypatch.setattr(command, "look", lambda _: host)
            monkeypatch.setattr(command, "dump_flows", switch.dump)
        monkeypatch.setattr(flows, "meter_room", lambda _: METERS)
        monkeypatch.setattr("ovs_metadata.flows.vswitchd.ask", switch.ask)
        return CliRunner().invoke(main, list(arguments), catch_exceptions=False)

    return run


USED = MetadataPort(1, ours=True, isolated=True)


def document(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# ovs-metadata flows


def test_flows_are_listed_by_port_after_those_for_all(run: Callable[..., Result]) -> None:
    shown = run("flows")
    assert shown.exit_code == 0
    headings = [line for line in shown.stdout.splitlines() if ", ofport " in line or "All" in line]
    assert headings == [
        "All ports of bridge br-int",
        f"Port {ONE.port_id}, interface tap1, ofport 5",
        f"Port {TWO.port_id}, interface tap2, ofport 6",
        f"Port {THREE.port_id}, interface tap3, ofport 7",
    ]
    assert f"instance {ONE.device_id}, 10.0.0.5\n" in shown.stdout
    assert f"instance {THREE.device_id}, no fixed IP known\n" in shown.stdout
    assert "not served: there is no record of it\n" in shown.stdout
    assert "MISSING" not in shown.stdout


def test_a_missing_or_unexpected_flow_is_marked(run: Callable[..., Result], switch: Switch) -> None:
    lost = next(each for each in switch.flows if each.cookie == cookie(5))
    switch.flows.remove(lost)
    switch.flows.append(NOBODYS)
    shown = run("flows").stdout
    assert shown.count("MISSING") == 1
    assert "Ofport 9\nnot served: no interface of the bridge has ofport 9\n" in shown


def test_one_port_can_be_chosen(run: Callable[..., Result]) -> None:
    shown = run("flows", "10.0.0.5").stdout
    assert "interface tap1" in shown
    assert "tap2" not in shown
    assert "All ports" not in shown


def test_as_json_each_flow_has_all_its_values(run: Callable[..., Result], switch: Switch) -> None:
    switch.flows.append(NOBODYS)
    found = document(run("flows", "--format", "json"))
    assert (found["bridge"], found["metadata_ofport"]) == ("br-int", 1)
    shared = {flow["cookie"] for flow in found["shared"]}
    assert shared == {f"{cookie():#x}"}
    by_ofport = {port["ofport"]: port for port in found["ports"]}
    assert by_ofport[5]["served"]
    assert by_ofport[5]["flows"][0]["state"] == "installed"
    assert by_ofport[5]["flows"][0]["table_name"] is None
    assert {flow["table_name"] for flow in by_ofport[5]["flows"]} > {"MetadataToProxy"}
    assert by_ofport[7]["why_not"] == "there is no record of it"
    assert by_ofport[9] == {
        "port_id": None,
        "instance": None,
        "interface": None,
        "ofport": 9,
        "vlan": 0,
        "fixed_ips": [],
        "served": False,
        "why_not": "no interface of the bridge has ofport 9",
        "flows": by_ofport[9]["flows"],
    }


def test_while_the_metadata_port_is_away_its_number_is_that_of_the_hooks(
    run: Callable[..., Result],
) -> None:
    shown = run("flows", metadata_port=None).stdout
    assert "no port is served: there is no port 'metadata' on the bridge" in shown
    assert "MISSING" not in shown
    assert "UNEXPECTED" not in shown


@pytest.mark.parametrize("command", [("flows",), ("trace", "tap1")])
def test_an_unreachable_switch_is_reported(
    run: Callable[..., Result], switch: Switch, command: tuple[str, ...]
) -> None:
    switch.error = PermissionError(13, "Permission denied")
    result = run(*command)
    assert result.exit_code == 3
    assert "bridge br-int cannot be asked at " in result.stderr
    assert "Permission denied" in result.stderr


# ovs-metadata trace


def test_both_ways_of_a_port_that_is_served(run: Callable[..., Result]) -> None:
    shown = run("trace", "tap1")
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"Port {ONE.port_id}, interface tap1, ofport 5\n")
    assert "The request goes to the proxy at 169.254.0.5, out of metadata port 1.\n" in shown.stdout
    assert "The answer " in shown.stdout
    assert "    MetadataToProxy " in shown.stdout


def test_as_json_it_has_packets_and_steps(run: Callable[..., Result]) -> None:
    found = document(run("trace", "tap1", "--format", "json"))
    assert (found["family"], found["right"], found["bridge"]) == ("IPv4", True, "br-int")
    assert "nw_dst=169.254.169.254" in found["request"]["packet"]
    step = found["request"]["steps"][1]
    assert (step["table"], step["table_name"]) == (200, "MetadataToProxy")
    assert step["cookie"] == f"{cookie(5):#x}"
    assert step["actions"] == ["output:1"]
    assert found["answer"]["right"]


def test_a_request_that_ends_elsewhere_is_a_failure(
    run: Callable[..., Result], switch: Switch
) -> None:
    switch.traces[0] = NOWHERE
    shown = run("trace", "tap1")
    assert shown.exit_code == 1
    assert "The request is dropped in table 0" in shown.stdout


def test_without_an_ipv4_address_it_is_ipv6(run: Callable[..., Result], switch: Switch) -> None:
    switch.traces[:] = [NOWHERE, NOWHERE]
    found = document(run("trace", "tap2", "--format", "json"))
    assert found["family"] == "IPv6"
    assert "fe80::a9fe:a9fe" in found["request"]["packet"]


def test_a_port_without_an_ipv4_address_may_ask_from_any(
    run: Callable[..., Result], switch: Switch
) -> None:
    switch.traces[:] = [NOWHERE, NOWHERE]
    found = document(run("trace", "tap2", "--ipv4", "--format", "json"))
    assert "nw_src=192.0.2.1" in found["request"]["packet"]


def test_a_port_without_a_number_can_send_nothing(run: Callable[..., Result]) -> None:
    shown = run("trace", "tap4")
    assert shown.exit_code == 1
    assert shown.stdout.count("cannot be sent: Open vSwitch has given it no ofport yet") == 2
    assert "ofport unknown\nnot served: " in shown.stdout


def test_a_port_without_a_record_is_traced_all_the_same(
    run: Callable[..., Result], switch: Switch
) -> None:
    switch.traces[:] = [NOWHERE, NOWHERE]
    shown = run("trace", "tap3", "--format", "json")
    assert shown.exit_code == 1
    assert "nw_src=192.0.2.1" in document(shown)["request"]["packet"]


def test_without_a_metadata_port_there_is_no_answer(
    run: Callable[..., Result], switch: Switch
) -> None:
    switch.traces[:] = [NOWHERE]
    shown = run("trace", "tap1", metadata_port=replace(USED, ours=False))
    assert shown.exit_code == 1
    assert (
        "The answer cannot be sent: the port 'metadata' on the bridge was not created by the agent"
        in (shown.stdout)
    )


def test_a_word_that_fits_several_ports_is_refused_and_they_are_named(
    run: Callable[..., Result],
) -> None:
    result = run("trace", "10.0.0.5")
    assert result.exit_code == 2
    assert "interface tap1" in result.stderr
    assert "interface tap4" in result.stderr


def test_a_vswitchd_that_does_not_answer_is_reported(
    run: Callable[..., Result], switch: Switch
) -> None:
    switch.error = VswitchdError("ovs-vswitchd does not answer")
    result = run("trace", "tap1")
    assert result.exit_code == 3
    assert "ovs-vswitchd does not answer" in result.stderr


def test_flows_and_their_trace_as_rows(run: Callable[..., Result]) -> None:
    rows = list(csv.DictReader(io.StringIO(run("flows", "-f", "csv").stdout)))
    assert {row["state"] for row in rows} == {"installed"}
    assert {row["interface"] for row in rows} >= {"", "tap1"}
    ways = run("trace", "-f", "value", "-c", "way", "tap1").stdout.split()
    assert ways == sorted(ways, reverse=True)
    assert set(ways) == {"request", "answer"}
