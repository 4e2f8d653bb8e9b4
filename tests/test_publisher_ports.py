"""What the store should hold of a Neutron port."""

import logging
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from ovs_metadata.publisher.ports import (
    Change,
    change_by_deletion,
    change_by_update,
    change_of,
    is_compute_port,
    record_of,
)
from ovs_metadata.store.record import (
    MAX_REVISION,
    MAX_SUB_PORTS,
    MAX_TAGS,
    MalformedRecord,
    PortRecord,
    SubPort,
)

PORT_ID = "5f0b1cd8-6c5a-4a4c-9a77-3c1d2e4f5a6b"
NETWORK_ID = "0e3c4a54-9d1b-4f0e-8a57-0c6c3f2b1a09"
RECORD = PortRecord(
    port_id=PORT_ID,
    project_id="project-1",
    device_id="instance-1",
    device_owner="compute:nova",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=("10.0.0.5", "2001:db8::5"),
    network_id=NETWORK_ID,
    revision_number=3,
)


def port(**changes: Any) -> dict[str, Any]:
    return {
        "id": PORT_ID,
        "name": "of no interest",
        "project_id": "project-1",
        "device_id": "instance-1",
        "device_owner": "compute:nova",
        "mac_address": "FA-16-3E-00-00-01",
        "fixed_ips": [
            {"subnet_id": NETWORK_ID, "ip_address": "10.0.0.5"},
            {"subnet_id": NETWORK_ID, "ip_address": "2001:DB8:0::5"},
        ],
        "network_id": NETWORK_ID,
        "revision_number": 3,
        "admin_state_up": True,
        **changes,
    }


SPARE = {"device_owner": "", "device_id": ""}


def test_the_record_of_a_compute_port() -> None:
    assert record_of(port()) == RECORD
    assert change_of(port()) == Change(PORT_ID, 3, RECORD)


def test_the_project_of_an_older_neutrons_port_is_its_tenant() -> None:
    """Neutron 2023.1 gives a trunk's sub-port, and a port with other tags, to plugins so."""
    older = {**port(), "tenant_id": "project-1"}
    del older["project_id"]
    assert record_of(older) == RECORD


def test_the_record_of_a_disabled_port_has_that_state() -> None:
    assert record_of(port(admin_state_up=False)) == replace(RECORD, admin_state_up=False)


def test_a_record_has_the_tags_that_set_options_and_no_others() -> None:
    tags = ["metadata:tokens=required", "blue", "metadata:\u00fc", "metadata: x", "metadata:a"]
    record = record_of(port(tags=tags))
    assert record == replace(RECORD, tags=("metadata:a", "metadata:tokens=required"))
    assert record_of(port(tags=None)) == RECORD
    many = [f"metadata:{number:03d}" for number in range(MAX_TAGS + 1)]
    assert record_of(port(tags=many)).tags == tuple(many[:MAX_TAGS])


def test_the_record_of_a_trunks_parent_has_its_sub_ports() -> None:
    def details(*vlans: int) -> dict[str, Any]:
        ports = [
            {
                "segmentation_id": vlan,
                "segmentation_type": "vlan",
                "port_id": str(UUID(int=vlan)),
                "mac_address": "fa:16:3e:00:00:02",
            }
            for vlan in vlans
        ]
        return {"trunk_details": {"trunk_id": NETWORK_ID, "sub_ports": ports}}

    two = (SubPort(42, str(UUID(int=42))), SubPort(43, str(UUID(int=43))))
    assert record_of(port(**details(43, 42))) == replace(RECORD, sub_ports=two)
    assert record_of(port(**details())) == record_of(port(trunk_details=None)) == RECORD
    many = record_of(port(**details(*range(MAX_SUB_PORTS + 1, 0, -1))))
    assert [each.vlan for each in many.sub_ports] == list(range(1, MAX_SUB_PORTS + 1))


@pytest.mark.parametrize("details", [[1], "x", {"sub_ports": 5}, {"sub_ports": [{"port_id": 1}]}])
def test_odd_details_of_a_trunk_are_an_odd_port(details: object) -> None:
    with pytest.raises(MalformedRecord):
        record_of(port(trunk_details=details))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"device_owner": "compute:nova"}, True),
        ({"device_owner": "compute:zone 2"}, True),
        ({"device_owner": "compute:None"}, True),
        ({"device_owner": "computer"}, False),
        ({"device_owner": "network:dhcp"}, False),
        ({"device_owner": "baremetal:none"}, False),
        ({"device_owner": ""}, False),
        ({"device_owner": None}, False),
        ({"device_id": ""}, False),
        ({"device_id": None}, False),
    ],
)
def test_which_ports_are_compute_ports(values: dict[str, Any], expected: bool) -> None:
    assert is_compute_port(port(**values)) is expected


def test_a_port_no_record_can_be_made_of_is_to_have_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert change_of(port(project_id="")) == Change(PORT_ID, 3, None)
    assert PORT_ID in caplog.text
    assert "project_id" in caplog.text


def test_a_port_without_a_field_is_refused() -> None:
    whole = port()
    del whole["mac_address"]
    with pytest.raises(MalformedRecord, match="mac_address"):
        record_of(whole)


@pytest.mark.parametrize("values", [{"revision_number": None}, {"id": None}])
def test_without_revision_or_id_there_is_no_change(values: dict[str, Any]) -> None:
    with pytest.raises(MalformedRecord, match="`revisions` must be loaded"):
        change_of(port(**values))


def test_creating_and_updating_ports() -> None:
    assert change_by_update(None, port()) == Change(PORT_ID, 3, RECORD)
    assert change_by_update(None, port(**SPARE)) is None
    assert change_by_update(port(**SPARE), port()) == Change(PORT_ID, 3, RECORD)
    assert change_by_update(port(revision_number=2), port(**SPARE)) == Change(PORT_ID, 3, None)
    assert change_by_update(port(**SPARE), port(**SPARE)) is None


def test_deleting_ports() -> None:
    assert change_by_deletion(port()) == Change(PORT_ID, MAX_REVISION, None)
    assert change_by_deletion(port(**SPARE)) is None


def test_the_newer_change_outdates_the_other_and_a_removal_the_record_of_its_revision() -> None:
    older, newer = Change(PORT_ID, 3, RECORD), Change(PORT_ID, 4, RECORD)
    removal = Change(PORT_ID, 3, None)
    assert newer.outdates(older)
    assert not older.outdates(newer)
    assert removal.outdates(older)
    assert not older.outdates(removal)
    assert not removal.outdates(newer)
