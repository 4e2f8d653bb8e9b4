"""The page of `ovs-metadata port show`: pure, from what the doctor reads of a port."""

from dataclasses import replace

from contracts.store_support import record

from ovs_metadata.cli.doctor import port
from ovs_metadata.cli.doctor.port_facts import PortFacts
from ovs_metadata.cli.flow_groups import FlowState, Group, ListedFlow
from ovs_metadata.cli.port_show import page
from ovs_metadata.cli.port_status import port_statuses
from ovs_metadata.flows.values import FlowKey, Match
from ovs_metadata.host.join import Interface, join_ports

RECORD = record()
TAP = Interface("tap1", ofport=5, iface_id=RECORD.port_id, vm_uuid=RECORD.device_id, tag=1)
VIEW = {
    "port_id": RECORD.port_id,
    "instance_id": RECORD.device_id,
    "state": "served",
    "requests": 3,
    "last_status": 503,
    "last_cause": "no_endpoint",
    "last_time": "noon",
}


def facts(interface: Interface = TAP, tags: tuple[str, ...] = ()) -> PortFacts:
    records = {RECORD.port_id: replace(RECORD, tags=tags)}
    host_ports = join_ports([interface], records)
    (status,) = port_statuses([interface], records, host_ports)
    return PortFacts(status, RECORD, agent_view=VIEW, asked=True)


def group(ofport: int, state: FlowState, does: str) -> Group:
    key = FlowKey(0, 1, Match.of(in_port=ofport))
    return Group(ofport, None, (ListedFlow(key, 5, state, does, packets=4),))


def test_a_port_that_is_served() -> None:
    groups = [group(0, FlowState.INSTALLED, "for all"), group(5, FlowState.INSTALLED, "the hook")]
    fields = dict(page(facts(), groups, []))
    assert fields["port"] == RECORD.port_id
    assert fields["instance"] == RECORD.device_id
    assert fields["served"] == "yes"
    assert fields["port addresses"] == ["169.254.0.5", "fe80::a9fe:5"]
    assert fields["fixed IPs"] == RECORD.fixed_ips
    assert (fields["requests"], fields["last answer"]) == ("3", "503 no endpoint, at noon")
    assert fields["flows"] == ["4 packets: the hook"]
    assert fields["findings"] == "none"


def test_each_metadata_option_is_shown_with_what_decided_it() -> None:
    fields = dict(page(facts(tags=("metadata:hop-limit=1",)), [], []))
    hop_limit, tokens, *_ = fields["metadata options"]
    assert hop_limit == f"hop_limit = 1, decided by port {RECORD.port_id}, by its tag"
    assert tokens == "tokens = optional, decided by deployment"


def test_a_port_with_trouble_says_which() -> None:
    dead = facts(replace(TAP, tag=4095))
    groups = [group(5, FlowState.MISSING, "the hook")]
    fields = dict(page(dead, groups, port.check_one(dead)))
    assert str(fields["served"]).startswith("no: it is on the dead VLAN")
    assert fields["flows"] == ["missing: the hook"]
    assert fields["findings"][0].startswith("error: dead-vlan: ")


def test_what_is_unknown_is_called_so() -> None:
    silent = replace(facts(replace(TAP, ofport=None)), agent_view=None)
    fields = dict(page(silent, [], [], "no switch answers"))
    assert (fields["requests"], fields["last answer"]) == ("unknown", "unknown")
    assert (fields["ofport"], fields["port addresses"]) == ("", "")
    assert fields["flows"] == "no switch answers"
