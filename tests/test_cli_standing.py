"""How a port of the bridge stands, and which ports a word names."""

import dataclasses

import pytest
from contracts.store_support import record

from ovs_metadata.cli.standing import Standing, chosen, standings
from ovs_metadata.host.join import Interface, join_ports
from ovs_metadata.store.interface import MalformedRecord, PortState

RECORD = record()
TAP = Interface("tap1", ofport=5, iface_id=RECORD.port_id, vm_uuid=RECORD.device_id.upper(), tag=1)
OTHER = record(2, instance=3)


def _standing(interface: Interface, state: PortState = RECORD) -> Standing:
    records = {RECORD.port_id: state}
    (standing,) = standings([interface], records, join_ports([interface], records))
    return standing


def test_a_served_port_has_no_reason_not_to_be() -> None:
    standing = _standing(TAP)
    assert standing.served
    assert standing.why_not is None
    assert standing.concerns_us
    assert standing.instance == RECORD.device_id


@pytest.mark.parametrize(
    ("change", "state", "reason", "concerns_us"),
    [
        ({}, None, "no record", True),
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
    change: dict[str, str | int | None], state: PortState, reason: str, concerns_us: bool
) -> None:
    standing = _standing(dataclasses.replace(TAP, **change), state)  # type: ignore[arg-type]
    assert standing.served is None
    assert reason in (standing.why_not or "")
    assert standing.concerns_us is concerns_us


def test_a_disputed_port_has_flows_and_a_reason() -> None:
    standing = _standing(dataclasses.replace(TAP, vm_uuid=OTHER.device_id))
    assert standing.why_not
    assert OTHER.device_id in standing.why_not
    assert standing.document()["served"] is False


def test_a_port_without_a_fixed_ip_has_flows_and_a_reason() -> None:
    standing = _standing(TAP, dataclasses.replace(RECORD, fixed_ips=()))
    assert standing.served
    assert standing.why_not == "its record has no fixed IP"


def test_of_two_claims_neither_is_served() -> None:
    twin = dataclasses.replace(TAP, name="tap2", ofport=6)
    records = {RECORD.port_id: RECORD}
    both = standings([twin, TAP], records, join_ports([twin, TAP], records))
    assert [each.interface.name for each in both] == ["tap1", "tap2"]
    assert all("2 interfaces claim port" in (each.why_not or "") for each in both)


@pytest.mark.parametrize(
    "word",
    [
        *(RECORD.port_id, RECORD.port_id.upper(), RECORD.device_id, "tap1"),
        *("10.0.0.5", "2001:db8::5", "2001:DB8:0::0005"),
    ],
)
def test_a_port_has_several_names(word: str) -> None:
    tap2 = dataclasses.replace(TAP, name="tap2", ofport=6, iface_id=OTHER.port_id)
    other = dataclasses.replace(OTHER, fixed_ips=("10.0.0.55",))
    records = {RECORD.port_id: RECORD, OTHER.port_id: other}
    both = standings([TAP, tap2], records, join_ports([TAP, tap2], records))
    assert [each.interface.name for each in chosen(both, word)] == ["tap1"]


@pytest.mark.parametrize("word", ["tap", "10.0.0", "10.0.0.6", "", "::"])
def test_what_names_nothing_chooses_nothing(word: str) -> None:
    nameless = Interface("br-int", ofport=65534)
    records = {RECORD.port_id: RECORD}
    both = standings([TAP, nameless], records, join_ports([TAP, nameless], records))
    assert chosen(both, word) == []


def test_instances_with_one_address_are_both_chosen() -> None:
    tap2 = dataclasses.replace(TAP, name="tap2", ofport=6, iface_id=OTHER.port_id)
    records = {RECORD.port_id: RECORD, OTHER.port_id: OTHER}
    both = standings([TAP, tap2], records, join_ports([TAP, tap2], records))
    assert chosen(both, "10.0.0.5") == both
