"""What the doctor reads of the flows: which ones, of which ports, and where their packets end."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from contracts.store_support import record

from ovs_metadata.cli.doctor import flows
from ovs_metadata.cli.doctor.advice import Shell
from ovs_metadata.cli.doctor.elsewhere import TableLimit
from ovs_metadata.cli.doctor.flows import read_flows
from ovs_metadata.cli.doctor.report import Finding, HopName, HopReport
from ovs_metadata.cli.flow_groups import FlowState
from ovs_metadata.cli.host_view import Host, read_host
from ovs_metadata.flows import vswitchd
from ovs_metadata.flows.desired import desired_flows
from ovs_metadata.flows.dump import DumpedFlow
from ovs_metadata.flows.meters import MeterRoom, meter_number
from ovs_metadata.flows.tables import Table, ofport_of
from ovs_metadata.host.config import load
from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.ovsdb import Bridge, MetadataPort
from ovs_metadata.store import open_store

TAPS = tuple(
    Interface(f"tap{number}", ofport=number, iface_id=record(number).port_id, tag=1)
    for number in (5, 6)
)
BRIDGE = Bridge(
    "br-int", interfaces=by_name(TAPS), metadata_port=MetadataPort(7, ours=True, isolated=True)
)
TO_PROXY = 200 + Table.ToProxy


class Switch:
    """All flows that should be there, each with 3 packets, and packets that end nowhere."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.asked: list[tuple[str, ...]] = []
        self.meters = MeterRoom(1 << 18)
        wanted = desired_flows(
            host.config.flows, host.metadata_ofport, host.host_ports, self.meters
        )
        self.dumped = [DumpedFlow(key, flow.cookie, 3, 300) for key, flow in wanted.items()]
        monkeypatch.setattr(flows, "dump_flows", lambda *_: self.dumped)
        monkeypatch.setattr(flows, "meter_room", lambda _: self.meters)
        monkeypatch.setattr(vswitchd, "ask", self.ask)

    def ask(self, _rundir: Path, *words: str) -> str:
        self.asked.append(words)
        return ""


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Switch:
    path = tmp_path / "agent.conf"
    path.write_text("")
    with contextlib.closing(open_store(f"directory:{tmp_path}/store")) as store:
        store.put(record(5))
        store.put(replace(record(6), fixed_ips=("2001:db8::6",)))
        return Switch(read_host(load(path), BRIDGE, store), monkeypatch)


def test_all_flows_are_as_they_should_be_and_nothing_is_traced(switch: Switch) -> None:
    found = read_flows(switch.host, (), None)
    assert {group.place for group in found.groups} == {0, 5, 6}
    assert {flow.state for group in found.groups for flow in group.flows} == {FlowState.INSTALLED}
    assert (found.packets, switch.asked) == ((), [])
    assert flows.check(found) == []


def test_the_ports_that_were_named_and_the_flows_for_all(switch: Switch) -> None:
    served = switch.host.host_ports.served
    found = read_flows(switch.host, (served[5], served[6]), frozenset({5}))
    assert {group.place for group in found.groups} == {0, 5}
    five, six = found.packets
    assert (five.place, five.title) == (5, record(5).port_id)
    for each in (five, six):  # the second has no IPv4 address
        assert list(each.request) == list(each.answer) == ["IPv4", "IPv6"]
    assert {words[:2] for words in switch.asked} == {("ofproto/trace", "br-int")}
    assert len(switch.asked) == 12
    assert {each.fault for each in flows.check(found)} == {
        flows.REQUEST_DIVERTED,
        flows.ANSWER_DIVERTED,
        flows.QUESTION_DIVERTED,
    }


def test_packets_of_requests_are_counted(switch: Switch) -> None:
    served = switch.host.host_ports.served
    (packets,) = read_flows(switch.host, (served[5],), frozenset({5})).packets
    to_proxy = [
        flow for flow in switch.dumped if flow.key.table == TO_PROXY and ofport_of(flow.cookie) == 5
    ]
    assert packets.requests == 3 * len(to_proxy) > 0
    (packets,) = read_flows(switch.host, (served[5],), None).packets
    assert packets.requests is None, "no port was given"


def test_a_missing_flow_is_why_packets_go_astray(switch: Switch) -> None:
    hooks = [flow for flow in switch.dumped if flow.key.table == 0 and ofport_of(flow.cookie) == 5]
    switch.dumped = [flow for flow in switch.dumped if flow not in hooks]
    found = read_flows(switch.host, (switch.host.host_ports.served[5],), None)
    (finding,) = flows.check(found)
    assert finding.fault is flows.FLOWS_MISSING
    assert finding.subject == record(5).port_id
    assert finding.why.endswith(f", and {len(hooks) - 1} more")


def test_a_missing_flow_of_no_port_is_one_of_the_flows_for_all(switch: Switch) -> None:
    (one, *_) = [flow for flow in switch.dumped if ofport_of(flow.cookie) == 0]
    switch.dumped.remove(one)
    (finding,) = flows.check(read_flows(switch.host, (), None))
    assert (finding.fault, finding.subject) == (flows.FLOWS_MISSING, "flows for all ports")
    assert "more" not in finding.why


def test_ports_whose_meters_are_taken_are_named(switch: Switch) -> None:
    switch.meters = MeterRoom(1 << 18, frozenset({meter_number(5), meter_number(9)}))
    for only, titles in ((None, [record(5).port_id]), (frozenset({6}), [])):
        found = read_flows(switch.host, (), only)
        assert [title for _number, title in found.taken] == titles
        assert found.has_meters
    switch.meters = MeterRoom()
    assert not read_flows(switch.host, (), None).has_meters


FULL = "bridge br-int refuses messages: OFPFMFC_TABLE_FULL for a FLOW_MOD of table 200: it is full"
MISSING = HopReport(HopName.FLOWS, (Finding(flows.FLOWS_MISSING, "the hook"),))


def test_what_the_bridge_refuses_is_why_flows_are_missing() -> None:
    limit = TableLimit((200,), 3, "40")
    (found,) = flows.with_refusal(MISSING, FULL, [limit]).findings
    assert (found.fault, found.why) == (flows.FLOWS_REFUSED, FULL)
    assert found.commands(Shell()) == ["ovs-vsctl clear flow_table 40 flow_limit"]
    assert "3 for table 200" in found.remedy


def test_another_refusal_and_a_table_without_a_limit_have_no_command() -> None:
    for refusal, limits in ((FULL, []), ("OFPBRC_EPERM", [TableLimit((200,), 3, "40")])):
        (found,) = flows.with_refusal(MISSING, refusal, limits).findings
        assert found.commands(Shell()) == []
        assert found.remedy == flows.FLOWS_REFUSED.remedy
    assert flows.with_refusal(MISSING, "", []) is MISSING


def test_that_flows_are_deleted_again_and_again_is_why_they_are_missing() -> None:
    assert flows.with_deletion(MISSING, "") is MISSING
    (found,) = flows.with_deletion(MISSING, "they are away for 3.2 s each time").findings
    assert (found.fault, found.why) == (flows.FLOWS_DELETED, "they are away for 3.2 s each time")
