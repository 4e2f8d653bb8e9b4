"""Whether a port of the bridge is served, and which ports a selector names."""

import dataclasses

import pytest
from contracts.store_support import record

from ovs_metadata.agent.identities import identity_table
from ovs_metadata.cli.doctor.port import check_one
from ovs_metadata.cli.doctor.port_facts import PortFacts
from ovs_metadata.cli.port_status import PortStatus, chosen, port_statuses
from ovs_metadata.host.join import Interface, join_ports
from ovs_metadata.proxy.control.identity import Pending
from ovs_metadata.store.interface import MalformedRecord, PortState

RECORD = record()
TAP = Interface("tap1", ofport=5, iface_id=RECORD.port_id, vm_uuid=RECORD.device_id.upper(), tag=1)
OTHER = record(2, instance=3)


def _port_status(interface: Interface, state: PortState = RECORD) -> PortStatus:
    records = {RECORD.port_id: state}
    (port_status,) = port_statuses([interface], records, join_ports([interface], records))
    return port_status


def test_a_served_port_has_no_reason_not_to_be() -> None:
    port_status = _port_status(TAP)
    assert port_status.served
    assert port_status.reason is None
    assert port_status.is_instance_port
    assert port_status.instance == RECORD.device_id


@pytest.mark.parametrize(
    ("change", "state", "reason", "is_instance_port"),
    [
        ({}, None, "no record", True),
        ({"vm_uuid": None}, None, "not an instance's", False),
        ({}, MalformedRecord(RECORD.port_id, "it is nonsense"), "it is nonsense", True),
        ({"tag": 4095}, RECORD, "dead VLAN", False),
        ({"tag": 4095}, None, "dead VLAN", False),
        ({"ofport": None}, RECORD, "no ofport yet", False),
        ({"ofport": -1}, RECORD, "Open vSwitch could not add the port", True),
        ({"ofport": 43518}, RECORD, "the service address itself", True),
        ({"iface_id": None}, RECORD, "no external_ids:iface-id", False),
        ({"iface_id": "tap"}, RECORD, "not a port UUID", True),
        (
            {},
            dataclasses.replace(RECORD, device_owner="network:dhcp"),
            "device owner is 'network:dhcp'",
            False,
        ),
    ],
)
def test_a_port_that_is_not_served_says_why(
    change: dict[str, str | int | None], state: PortState, reason: str, is_instance_port: bool
) -> None:
    port_status = _port_status(dataclasses.replace(TAP, **change), state)  # type: ignore[arg-type]
    assert port_status.served is None
    assert reason in (port_status.reason or "")
    assert port_status.is_instance_port is is_instance_port


def test_a_disputed_port_has_flows_and_a_reason() -> None:
    port_status = _port_status(dataclasses.replace(TAP, vm_uuid=OTHER.device_id))
    assert port_status.reason
    assert OTHER.device_id in port_status.reason
    assert port_status.document()["served"] is False


def test_a_port_without_a_fixed_ip_has_flows_and_a_reason() -> None:
    port_status = _port_status(TAP, dataclasses.replace(RECORD, fixed_ips=()))
    assert port_status.served
    assert port_status.reason == "its record has no fixed IP"


STATES: list[PortState] = [
    None,
    RECORD,
    MalformedRecord(RECORD.port_id, "it is nonsense"),
    dataclasses.replace(RECORD, fixed_ips=()),
    dataclasses.replace(RECORD, device_owner="network:dhcp"),
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
@pytest.mark.parametrize(
    "change",
    [
        *({}, {"vm_uuid": None}, {"vm_uuid": OTHER.device_id}, {"tag": 4095}),
        *({"ofport": None}, {"ofport": -1}, {"ofport": 43518}, {"ofport_request": 9}),
        *({"iface_id": None}, {"iface_id": "tap"}),
    ],
    ids=str,
)
def test_all_commands_say_the_same_of_a_port(
    change: dict[str, str | int | None], state: PortState
) -> None:
    """flows, trace, status and plan by its status; port list by the agent; doctor by its checks."""
    status = _port_status(dataclasses.replace(TAP, **change), state)  # type: ignore[arg-type]
    records = {RECORD.port_id: state}
    entries = identity_table(join_ports([status.interface], records), b"").values()
    for entry in entries:
        if isinstance(entry, Pending):
            assert (status.reason or "").startswith(entry.reason)
        else:
            assert status.reason is None
    findings = check_one(PortFacts(status, state if status.port_id else None))
    assert bool(findings) is bool(status.reason)
    if status.reason:
        assert any(each.why.startswith(status.reason) for each in findings)


def test_of_two_claims_neither_is_served() -> None:
    twin = dataclasses.replace(TAP, name="tap2", ofport=6)
    records = {RECORD.port_id: RECORD}
    both = port_statuses([twin, TAP], records, join_ports([twin, TAP], records))
    assert [each.interface.name for each in both] == ["tap1", "tap2"]
    assert all("2 interfaces claim port" in (each.reason or "") for each in both)


@pytest.mark.parametrize(
    "word",
    [
        *(RECORD.port_id, RECORD.port_id.upper(), RECORD.device_id, "tap1"),
        *("10.0.0.5", "2001:db8::5", "2001:DB8:0::0005"),
    ],
)
def test_a_port_has_several_names(word: str) -> None:
    tap2 = dataclasses.replace(
        TAP, name="tap2", ofport=6, iface_id=OTHER.port_id, vm_uuid=OTHER.device_id
    )
    other = dataclasses.replace(OTHER, fixed_ips=("10.0.0.55",))
    records = {RECORD.port_id: RECORD, OTHER.port_id: other}
    both = port_statuses([TAP, tap2], records, join_ports([TAP, tap2], records))
    assert [each.interface.name for each in chosen(both, word)] == ["tap1"]


def test_a_disputed_port_is_named_by_either_instance() -> None:
    disputed = _port_status(dataclasses.replace(TAP, vm_uuid=OTHER.device_id))
    for instance in (RECORD.device_id, OTHER.device_id):
        assert chosen([disputed], instance) == [disputed]


@pytest.mark.parametrize("word", ["tap", "10.0.0", "10.0.0.6", "", "::"])
def test_what_names_nothing_chooses_nothing(word: str) -> None:
    nameless = Interface("br-int", ofport=65534)
    records = {RECORD.port_id: RECORD}
    both = port_statuses([TAP, nameless], records, join_ports([TAP, nameless], records))
    assert chosen(both, word) == []


def test_instances_with_one_address_are_both_chosen() -> None:
    tap2 = dataclasses.replace(TAP, name="tap2", ofport=6, iface_id=OTHER.port_id)
    records = {RECORD.port_id: RECORD, OTHER.port_id: OTHER}
    both = port_statuses([TAP, tap2], records, join_ports([TAP, tap2], records))
    assert chosen(both, "10.0.0.5") == both
