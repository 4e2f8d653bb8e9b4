"""Port records: what is accepted, its canonical form, and the errors of anything else."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields, replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.store.record import MAX_DOCUMENT, MalformedRecord, PortRecord, SubPort

PORT = "0a1b2c3d-0000-4000-8000-000000000001"
NETWORK = "0a1b2c3d-0000-4000-8000-000000000002"

RECORD = PortRecord(
    port_id=PORT,
    project_id="9f8e7d6c5b4a39281706f5e4d3c2b1a0",
    device_id="0a1b2c3d-0000-4000-8000-000000000003",
    device_owner="compute:nova",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=("10.0.0.5", "2001:db8::5", "10.0.0.6"),
    network_id=NETWORK,
    revision_number=4,
)

header_text = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
records = st.builds(
    PortRecord,
    port_id=st.uuids().map(str),
    project_id=header_text.map(lambda text: text[:255]),
    device_id=header_text.map(lambda text: text[:255]),
    device_owner=st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=255),
    mac_address=st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":")),
    fixed_ips=st.lists(st.ip_addresses().map(str), max_size=5).map(tuple),
    network_id=st.uuids().map(str),
    revision_number=st.integers(0, 2**63 - 1),
    sub_ports=st.dictionaries(st.integers(1, 4094), st.uuids().map(str), max_size=5).map(
        lambda ports: tuple(ports.items())
    ),
)


def document(**changes: object) -> bytes:
    return json.dumps(asdict(RECORD) | changes).encode()


def refusal(data: bytes, port_id: str | None = PORT) -> MalformedRecord:
    with pytest.raises(MalformedRecord) as refused:
        PortRecord.from_json(port_id, data)
    return refused.value


@given(records)
def test_a_record_survives_its_document(record: PortRecord) -> None:
    assert PortRecord.from_json(record.port_id, record.to_json()) == record


def test_equal_records_have_equal_documents_with_neutrons_names() -> None:
    data = RECORD.to_json()
    assert data == replace(RECORD).to_json()
    assert list(json.loads(data)) == sorted(field.name for field in fields(PortRecord))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_malformed(data: bytes) -> None:
    assert PORT in str(refusal(data))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([field.name for field in fields(PortRecord)]), json_values)
def test_any_value_in_any_field_is_in_canonical_form_or_malformed(name: str, value: object) -> None:
    refused: MalformedRecord | None = None
    try:
        record = PortRecord.from_json(PORT, document(**{name: value}))
    except MalformedRecord as malformed:
        refused = malformed
    if refused is None:
        assert PortRecord.from_json(PORT, record.to_json()) == record
    else:
        assert refused.port_id == PORT
        assert name in refused.reason
        assert refused.reason.isprintable()
        assert len(refused.reason) < 300


@given(st.dictionaries(st.text(), json_values))
def test_unknown_keys_are_ignored(extra: dict[str, Any]) -> None:
    unknown = {f"x-{key}": value for key, value in extra.items()}
    assert PortRecord.from_json(PORT, document(**unknown)) == RECORD


def test_values_become_canonical() -> None:
    record = PortRecord.from_json(
        PORT,
        document(
            port_id=PORT.upper(),
            network_id=NETWORK.upper(),
            mac_address="FA-16-3E-00-00-01",
            fixed_ips=["10.0.0.5", "2001:DB8:0::0:5", "10.0.0.6"],
        ),
    )
    assert record == RECORD
    assert hash(record) == hash(RECORD)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"port_id": "0a1b2c3d00004000800000000000000a"}, "port_id is not a UUID"),
        ({"port_id": NETWORK}, f"port_id is that of another port, {NETWORK}"),
        ({"port_id": 5}, "port_id is not a string but 5"),
        ({"network_id": f"{{{NETWORK}}}"}, "network_id is not a UUID"),
        ({"network_id": NETWORK + "\n"}, "network_id is not a UUID"),
        ({"project_id": ""}, "project_id must be 1 to 255 characters of visible ASCII"),
        ({"project_id": None}, "project_id is not a string but None"),
        ({"device_id": "a\r\nX-Instance-ID: b"}, "device_id must be"),
        ({"device_id": "a b"}, "device_id must be"),
        ({"device_id": "a\n"}, "device_id must be"),
        ({"device_id": "\x00"}, "device_id must be"),
        ({"device_id": "\u00e9"}, "device_id must be"),
        ({"device_id": "\ud800"}, "device_id must be"),
        ({"device_id": "x" * 256}, "1 to 255"),
        ({"device_owner": "compute:\x1b[2J"}, "device_owner must be"),
        ({"device_owner": "compute:\u202eavon"}, "device_owner must be"),
        ({"device_owner": "compute:\u2028"}, "device_owner must be"),
        ({"device_owner": "compute:\ud800"}, "device_owner must be"),
        (
            {"device_owner": "compute:" + "ü" * 248},
            "device_owner must be printable and at most 255",
        ),
        ({"mac_address": "fa:16:3e:00:00"}, "mac_address is not a MAC address"),
        ({"mac_address": "fa:16:3e:00:00:01:02:03"}, "mac_address is not a MAC address"),
        ({"mac_address": 1}, "mac_address is not a string"),
        ({"fixed_ips": "10.0.0.5"}, "fixed_ips is not a list"),
        ({"fixed_ips": ["10.0.0.05"]}, "not an address: '10.0.0.05'"),
        ({"fixed_ips": ["10.0.5"]}, "not an address: '10.0.5'"),
        ({"fixed_ips": ["10.0.0.0/24"]}, "not an address"),
        ({"fixed_ips": ["fe80::1%eth0"]}, "not an address"),
        ({"fixed_ips": [{"ip_address": "10.0.0.5"}]}, "fixed_ips is not a string but {"),
        ({"fixed_ips": [167772165]}, "fixed_ips is not a string but 167772165"),
        ({"fixed_ips": ["10.0.0.5"] * 1025}, "fixed_ips has 1025 addresses"),
        ({"revision_number": "4"}, "revision_number is not an integer but '4'"),
        ({"revision_number": 4.0}, "revision_number is not an integer"),
        ({"revision_number": True}, "revision_number is not an integer but True"),
        ({"admin_state_up": 0}, "admin_state_up is neither true nor false: 0"),
        ({"tags": "metadata:a"}, "tags is not a list"),
        ({"tags": ["blue"]}, "tags is not a list of texts that begin with 'metadata:'"),
        ({"tags": ["metadata:a b"]}, "tags is not a list"),
        ({"tags": [f"metadata:{number}" for number in range(65)]}, "tags has 65 texts"),
        ({"sub_ports": {"42": NETWORK}}, "sub_ports is not a list"),
        ({"sub_ports": [42]}, "sub_ports has an item that is no pair: 42"),
        ({"sub_ports": [[42, NETWORK, 1]]}, "sub_ports has an item that is no pair"),
        ({"sub_ports": [[0, NETWORK]]}, "sub_ports has an item that is no VLAN: 0"),
        ({"sub_ports": [[4095, NETWORK]]}, "sub_ports has an item that is no VLAN: 4095"),
        ({"sub_ports": [["42", NETWORK]]}, "sub_ports has an item that is no VLAN: '42'"),
        ({"sub_ports": [[42, "x"]]}, "sub_ports is not a UUID: 'x'"),
        ({"sub_ports": [[42, PORT], [42, NETWORK]]}, "sub_ports has the same VLAN twice"),
        ({"sub_ports": [[42, PORT], [43, PORT]]}, "sub_ports has the same port twice"),
        ({"sub_ports": [[42, PORT]] * 1001}, "sub_ports has 1001 ports"),
        ({"revision_number": -1}, "revision_number is not between"),
        ({"revision_number": 2**63}, "revision_number is not between"),
    ],
)
def test_a_bad_value_is_named(changes: dict[str, object], reason: str) -> None:
    assert reason in refusal(document(**changes)).reason


@pytest.mark.parametrize(
    "zone",
    [
        *("nova", "Failure domain 2", "Württemberg Test", " blanks ", "東京\u3000第二", "a/b:c;d"),
        *("\N{WHITE HEAVY CHECK MARK}", "non\u00a0breaking", "%7Fc", "ü" * 247),
    ],
)
def test_an_availability_zone_may_be_any_printable_text(zone: str) -> None:
    record = replace(RECORD, device_owner=f"compute:{zone}")
    assert PortRecord.from_json(PORT, record.to_json()) == record
    assert record.device_owner == f"compute:{zone}"


@pytest.mark.parametrize("project_id", ["A" * 64, "default", "5F3C", "project.1@domain"])
def test_a_project_is_named_as_keystone_names_it(project_id: str) -> None:
    assert replace(RECORD, project_id=project_id).project_id == project_id


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (document().decode().encode("utf-16"), "not UTF-8"),
        (b"[" * 60000, "nested deeper than 32 levels"),
        (b'{"revision_number": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "not a JSON object but []"),
        (b'"text"', "not a JSON object but 'text'"),
        (b"{}", "missing: port_id, project_id"),
        (b" " * MAX_DOCUMENT + document(), "more than the 65536 allowed"),
    ],
)
def test_a_bad_document_is_explained(data: bytes, reason: str) -> None:
    assert reason in refusal(data).reason


@pytest.mark.parametrize(
    "name", [field.name for field in fields(PortRecord) if field.default is MISSING]
)
def test_no_field_may_be_missing(name: str) -> None:
    values = asdict(RECORD)
    del values[name]
    assert refusal(json.dumps(values).encode()).reason == f"missing: {name}"


def test_a_document_of_an_earlier_release_is_of_an_enabled_port() -> None:
    values = asdict(RECORD)
    del values["admin_state_up"]
    assert PortRecord.from_json(PORT, json.dumps(values).encode()).admin_state_up


@pytest.mark.parametrize("name", ["tags", "sub_ports"])
def test_a_document_of_an_earlier_release_has_no_tags_and_no_sub_ports(name: str) -> None:
    values = asdict(RECORD)
    del values[name]
    assert getattr(PortRecord.from_json(PORT, json.dumps(values).encode()), name) == ()


def test_sub_ports_are_in_order_of_their_vlans() -> None:
    record = replace(RECORD, sub_ports=((43, PORT), (42, NETWORK)))  # type: ignore[arg-type]
    assert record.sub_ports == (SubPort(42, NETWORK), SubPort(43, PORT))
    assert json.loads(record.to_json())["sub_ports"] == [[42, NETWORK], [43, PORT]]


def test_a_record_whose_document_no_store_would_take_is_malformed() -> None:
    ports = tuple(SubPort(vlan, str(UUID(int=vlan))) for vlan in range(1, 1001))
    assert len(replace(RECORD, sub_ports=ports).to_json()) < MAX_DOCUMENT
    with pytest.raises(MalformedRecord, match="over 65536 bytes"):
        replace(
            RECORD, sub_ports=ports, fixed_ips=("1111:2222:3333:4444:5555:6666:7777:8888",) * 1024
        )


def test_tags_are_in_order_and_each_is_there_once() -> None:
    record = replace(RECORD, tags=("metadata:b", "metadata:a", "metadata:b"))
    assert record.tags == ("metadata:a", "metadata:b")
    assert PortRecord.from_json(PORT, record.to_json()) == record


def test_the_largest_record_is_not_too_large() -> None:
    most = replace(
        RECORD,
        project_id="p" * 255,
        device_id='"' * 255,
        device_owner="\N{WHITE HEAVY CHECK MARK}" * 255,
        fixed_ips=("1111:2222:3333:4444:5555:6666:7777:8888",) * 1024,
        revision_number=2**63 - 1,
    )
    assert PortRecord.from_json(PORT, most.to_json()) == most


def test_a_record_cannot_be_made_of_bad_values_by_hand_either() -> None:
    with pytest.raises(MalformedRecord, match=f"record of port {PORT}: mac_address is not"):
        replace(RECORD, mac_address="nonsense")


def test_without_a_name_any_port_is_accepted_and_named_in_errors() -> None:
    assert PortRecord.from_json(None, document()) == RECORD
    assert refusal(document(mac_address=""), None).port_id == PORT
    assert refusal(b"{}", None).port_id == "(unnamed)"


def test_the_primary_address_is_the_first_and_the_first_of_a_version() -> None:
    assert RECORD.primary == "10.0.0.5"
    assert RECORD.primary_fixed_ip(4) == "10.0.0.5"
    assert RECORD.primary_fixed_ip(6) == "2001:db8::5"
    reordered = replace(RECORD, fixed_ips=("2001:db8::5", "10.0.0.6", "10.0.0.5"))
    assert reordered.primary == "2001:db8::5"
    assert reordered.primary_fixed_ip(4) == "10.0.0.6"


def test_a_port_without_addresses_has_no_primary() -> None:
    record = replace(RECORD, fixed_ips=())
    assert record.primary is None
    assert record.primary_fixed_ip(4) is None
    assert record.primary_fixed_ip(6) is None
