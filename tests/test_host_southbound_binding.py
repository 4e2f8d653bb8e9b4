"""The record that a row of OVN's Port_Binding makes, whatever is written there."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.host.join import HostPorts, Interface, join_ports
from ovs_metadata.host.southbound.binding import (
    BINDINGS,
    KEYS,
    PortBinding,
    state_of,
    sub_ports_of,
)
from ovs_metadata.store.interface import BoundElsewhere, MalformedRecord, PortState
from ovs_metadata.store.record import PortRecord, SubPort

PORT = "5f0b1cd8-6c5a-4a4c-9a77-3c1d2e4f5a6b"
PARENT = "5f0b1cd8-6c5a-4a4c-9a77-3c1d2e4f5a6c"
NETWORK = "0e3c4a54-9d1b-4f0e-8a57-0c6c3f2b1a09"
INSTANCE = "b6f3c9e2-5a3b-4a51-9d52-6c1f5f7b7a11"

RECORD = PortRecord(
    port_id=PORT,
    project_id="project-1",
    device_id=INSTANCE,
    device_owner="compute:nova",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=("10.0.0.5", "2001:db8::5"),
    network_id=NETWORK,
    revision_number=4,
)
BINDING = PortBinding(
    {
        "cidrs": "10.0.0.5/24 2001:db8::5/64",
        "device_id": INSTANCE,
        "device_owner": "compute:nova",
        "network_name": f"neutron-{NETWORK}",
        "project_id": "project-1",
        "revision_number": "4",
    },
    ("fa:16:3e:00:00:01 10.0.0.5 2001:db8::5",),
    chassis="this",
)


def with_ids(**external_ids: str | None) -> PortBinding:
    """The binding with other external_ids; None removes one."""
    ids = {**BINDING.external_ids, **external_ids}
    return replace(
        BINDING, external_ids={key: each for key, each in ids.items() if each is not None}
    )


def reason(binding: PortBinding) -> str:
    state = state_of(PORT, binding)
    assert isinstance(state, MalformedRecord)
    return state.reason


def test_the_record_of_an_instances_port() -> None:
    assert state_of(PORT, BINDING) == RECORD


def test_a_port_that_is_bound_nowhere_is_this_hosts() -> None:
    """As while ovn-controller is away, which takes its chassis with it when it exits."""
    assert state_of(PORT, replace(BINDING, chassis="")) == RECORD


def test_a_port_that_is_bound_to_another_chassis_is_waited_for() -> None:
    state = state_of(PORT, replace(BINDING, chassis="another"))
    assert state == BoundElsewhere(RECORD)
    host_ports = join_ports([Interface("tap", 5, PORT)], {PORT: state})
    assert host_ports.pending_reasons == {5: "OVN has bound it to another chassis"}
    assert not host_ports.served


def test_a_disabled_port_is_not_served() -> None:
    state = state_of(PORT, replace(BINDING, disabled=True))
    assert state == replace(RECORD, admin_state_up=False)
    assert join_ports([Interface("tap", 5, PORT)], {PORT: state}) == HostPorts()


@pytest.mark.parametrize("owner", ["trunk:subport", "", None])
def test_a_subport_names_its_parent(owner: str | None) -> None:
    state = state_of(PORT, replace(with_ids(device_owner=owner, device_id=""), parent_port=PARENT))
    assert state == replace(RECORD, device_owner="trunk:subport", device_id=PARENT)


def test_sub_ports_are_those_of_one_tag_each() -> None:
    one, two = SubPort(42, PORT), SubPort(43, PARENT)
    assert sub_ports_of([two, one]) == (one, two)
    assert sub_ports_of([one, two, (42, PARENT)]) == (two,), "one is being replaced"
    assert sub_ports_of([(4095, PORT), (44, "no-port")]) == ()
    state = state_of(PORT, replace(BINDING, sub_ports=(one,)))
    assert state == replace(RECORD, sub_ports=(one,))


def test_a_snapshot_of_an_earlier_release_has_no_sub_ports() -> None:
    document = json.loads(BINDING.to_json())
    del document["sub_ports"]
    assert PortBinding.from_json(json.dumps(document).encode()) == BINDING


@pytest.mark.parametrize(
    "ids",
    [
        {"device_owner": "network:distributed", "device_id": f"ovnmeta-{NETWORK}"},
        {"device_owner": "network:distributed", "device_id": ""},
        {"device_owner": "network:router_gateway", "project_id": ""},
        {"device_owner": "", "device_id": ""},
    ],
)
def test_the_ports_of_others_are_no_instances(ids: dict[str, str]) -> None:
    state = state_of(PORT, with_ids(**ids))
    assert state is None or not state.device_owner.startswith("compute:")  # type: ignore[union-attr]
    assert not join_ports([Interface("tap", 5, PORT)], {PORT: state}).served


@pytest.mark.parametrize(
    ("column", "mac"),
    [
        (("FA:16:3E:00:00:02 10.0.0.5",), "fa:16:3e:00:00:02"),
        (("fa:16:3e:00:00:02",), "fa:16:3e:00:00:02"),
        (("fa:16:3e:00:00:02 10.0.0.5", "unknown"), "fa:16:3e:00:00:02"),
        (("fa:16:3e:00:00:01", "fa:16:3e:00:00:02 10.0.0.5"), "fa:16:3e:00:00:02"),
    ],
)
def test_the_mac_is_the_one_with_the_ports_addresses(column: tuple[str, ...], mac: str) -> None:
    assert state_of(PORT, replace(BINDING, mac=column)) == replace(RECORD, mac_address=mac)


@pytest.mark.parametrize(
    "column",
    [
        (),
        ("unknown",),
        ("",),
        ("router",),
        ("fa:16:3e:00:00:01", "fa:16:3e:00:00:02"),
        ("fa:16:3e:00:00:01 10.0.0.5", "fa:16:3e:00:00:02 10.0.0.6"),
    ],
)
def test_a_port_without_one_mac_is_not_served(column: tuple[str, ...]) -> None:
    assert "does not name one MAC address" in reason(replace(BINDING, mac=column))


@pytest.mark.parametrize("key", sorted(set(KEYS) - {"cidrs", "revision_number"}))
def test_what_neutron_has_not_written_is_named(key: str) -> None:
    assert reason(with_ids(**{key: None})) == f"Port_Binding has no external_ids:neutron:{key}"


def test_a_port_may_be_without_addresses_and_revision() -> None:
    state = state_of(PORT, with_ids(cidrs=None, revision_number=None))
    assert state == replace(RECORD, fixed_ips=(), revision_number=0)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ({"project_id": "a\r\nX-Tenant-ID: b"}, "project_id must be"),
        ({"device_id": ""}, "device_id must be"),
        ({"network_name": "provider"}, "network_id is not a UUID"),
        ({"cidrs": "10.0.0.5/24 nonsense"}, "fixed_ips has an item that is not an address"),
        ({"cidrs": "10.0.0.5/24 " * 2000}, "fixed_ips has "),
        ({"revision_number": "-1"}, "revision_number is no number"),
        ({"revision_number": "\uff11"}, "revision_number is no number"),
        ({"revision_number": "9" * 5000}, "revision_number is no number"),
        ({"device_owner": "compute:\x1b[2J"}, "device_owner must be"),
    ],
)
def test_a_bad_value_is_named(ids: dict[str, str], expected: str) -> None:
    assert expected in reason(with_ids(**ids))


texts = st.text(max_size=40) | st.sampled_from(
    [
        *BINDING.external_ids.values(),
        "trunk:subport",
        "network:dhcp",
        *BINDING.mac,
        "\x00",
        "\ud800",
    ]
)
bindings = st.builds(
    PortBinding,
    st.dictionaries(st.sampled_from(KEYS), texts),
    st.lists(texts, max_size=3).map(tuple),
    texts,
    st.sampled_from(["", "this", "another"]),
    st.booleans(),
)


@given(bindings)
def test_no_binding_makes_more_than_a_valid_record(binding: PortBinding) -> None:
    state = state_of(PORT, binding)
    record: Any = state.record if isinstance(state, BoundElsewhere) else state
    if not isinstance(record, PortRecord):
        assert record is None or isinstance(record, MalformedRecord)
        return
    assert record.port_id == PORT
    assert PortRecord.from_json(PORT, record.to_json()) == record
    assert isinstance(state, BoundElsewhere) == (binding.chassis == "another")
    served = join_ports([Interface("tap", 5, PORT)], {PORT: state}).served
    assert not served or (
        binding.chassis != "another"
        and not binding.disabled
        and record.device_id == binding.external_ids["device_id"]
    )


@given(bindings)
def test_a_snapshot_has_the_same_state(binding: PortBinding) -> None:
    def shown(state: PortState) -> object:
        return str(state) if isinstance(state, MalformedRecord) else state

    again, _content = BINDINGS.state_of(PORT, binding.to_json())
    assert shown(again) == shown(state_of(PORT, binding))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", b"[]", b"null", BINDING.to_json().replace(b'"this"', b'"both"')),
        BINDING.to_json().replace(b'"sub_ports": []', b'"sub_ports": [[42]]'),
    ],
)
def test_a_snapshot_that_we_have_not_written_serves_no_port(data: bytes) -> None:
    state, _content = BINDINGS.state_of(PORT, data)
    assert isinstance(state, MalformedRecord)


def test_no_binding_is_no_record() -> None:
    assert BINDINGS.state_of(PORT, None) == (None, None)
