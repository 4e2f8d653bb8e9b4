"""Our flows, by port, and whether they should be there."""

import dataclasses

from contracts.store_support import record

from ovs_metadata.cli.flow_groups import FlowState, Group, groups
from ovs_metadata.cli.port_status import PortStatus, port_statuses
from ovs_metadata.flows.desired import desired_flows, hooked_ofport
from ovs_metadata.flows.dump import DumpedFlow
from ovs_metadata.flows.meters import MeterRoom
from ovs_metadata.flows.tables import cookie
from ovs_metadata.flows.values import FlowKey, Match
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.join import Interface, join_ports

ONE, TWO = record(1), record(2)
TAP1 = Interface("tap1", ofport=5, iface_id=ONE.port_id)
TAP2 = Interface("tap2", ofport=6, iface_id=TWO.port_id, vm_uuid=TWO.device_id)
PATCH = Interface("patch-tun", ofport=7)
RECORDS = {ONE.port_id: ONE, TWO.port_id: None}
INTERFACES = [PATCH, TAP2, TAP1]
BOUND = join_ports(INTERFACES, RECORDS)
DESIRED = desired_flows(FlowOptions(), 1, BOUND, MeterRoom())
INSTALLED = [
    DumpedFlow(key, flow.cookie, packets=number, octets=60 * number)
    for number, (key, flow) in enumerate(DESIRED.items())
]


def _port_statuses() -> list[PortStatus]:
    return port_statuses(INTERFACES, RECORDS, BOUND)


def _groups(*dumped: DumpedFlow) -> list[Group]:
    return groups(DESIRED, dumped, _port_statuses())


def _states(group: Group) -> set[FlowState]:
    return {flow.state for flow in group.flows}


def test_flows_for_all_ports_come_first_then_each_port() -> None:
    everybodys, one, two = _groups(*INSTALLED)
    assert everybodys.port_status is None
    assert {flow.cookie for flow in everybodys.flows} == {cookie()}
    assert one.port_status
    assert one.port_status.interface == TAP1
    assert {flow.cookie for flow in one.flows} == {cookie(5)}
    assert two.port_status
    assert two.port_status.reason == "there is no record of it"
    assert two.flows == ()


def test_each_installed_flow_says_what_it_does_and_how_often_it_did() -> None:
    for group in _groups(*INSTALLED):
        for flow in group.flows:
            assert flow.state == FlowState.INSTALLED
            assert flow.does == DESIRED[flow.key].note
            assert flow.octets == 60 * (flow.packets or 0)


def test_flows_are_in_the_order_in_which_packets_meet_them() -> None:
    for group in _groups(*reversed(INSTALLED)):
        order = [(flow.key.table, -flow.key.priority) for flow in group.flows]
        assert order == sorted(order)


def test_a_missing_flow_is_marked_and_has_no_counters() -> None:
    _, one, _ = _groups(*(flow for flow in INSTALLED if flow.key.table != 0))
    hooks = [flow for flow in one.flows if flow.key.table == 0]
    assert hooks
    assert {flow.state for flow in hooks} == {FlowState.MISSING}
    assert {flow.packets for flow in hooks} == {None}
    assert {flow.state for flow in one.flows if flow.key.table} == {FlowState.INSTALLED}


def test_a_flow_with_other_content_is_marked() -> None:
    changed = dataclasses.replace(INSTALLED[0], as_desired=False)
    everybodys, one, _ = _groups(changed, *INSTALLED[1:])
    assert [flow.state for flow in everybodys.flows].count(FlowState.DIFFERENT) == 1
    assert _states(one) == {FlowState.INSTALLED}


def test_a_flow_that_should_not_be_there_is_marked_and_shows_what_it_matches() -> None:
    stray = DumpedFlow(FlowKey(0, 9, Match.of(in_port=5, eth_type=0x0806)), cookie(5), 1, 60, False)
    _, one, _ = _groups(*INSTALLED, stray)
    (marked,) = (flow for flow in one.flows if flow.state == FlowState.UNEXPECTED)
    assert marked.does == "arp,in_port=5"
    odd = DumpedFlow(FlowKey(0, 9, Match.of(udp_dst=53, vlan_vid=4097)), cookie(5), 1, 60, False)
    _, one, _ = _groups(*INSTALLED, odd)
    (marked,) = (flow for flow in one.flows if flow.state == FlowState.UNEXPECTED)
    assert marked.does == "udp_dst=53,vlan_vid=4097"


def test_flows_of_an_unused_ofport_form_a_group_of_their_own() -> None:
    stray = DumpedFlow(FlowKey(204, 200, Match.of()), cookie(99), 0, 0, False)
    nobodys = _groups(*INSTALLED, stray)[-1]
    assert (nobodys.place, nobodys.port_status) == (99, None)
    assert [flow.does for flow in nobodys.flows] == ["every packet"]


def test_an_unserved_port_is_listed_only_if_it_has_flows() -> None:
    assert PATCH not in {group.port_status.interface for group in _groups() if group.port_status}
    stray = DumpedFlow(FlowKey(0, 9, Match.of(in_port=7)), cookie(7), 1, 60, False)
    assert PATCH in {group.port_status.interface for group in _groups(stray) if group.port_status}


def test_the_hook_in_the_switch_tells_the_metadata_port() -> None:
    assert hooked_ofport((flow.key, flow.cookie) for flow in INSTALLED) == 1
    assert hooked_ofport([(FlowKey(204, 200, Match.of()), cookie(5))]) is None
