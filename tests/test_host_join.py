"""Which ports are served, waited for, and refused."""

import dataclasses

import pytest

from ovs_metadata.host.address import place_of
from ovs_metadata.host.join import HostPorts, Interface, Records, join_ports
from ovs_metadata.metadata_options import MetadataOptions, OptionPolicy, TenantOptions
from ovs_metadata.store.interface import BoundElsewhere, PortState
from ovs_metadata.store.record import MalformedRecord, PortRecord, SubPort

PORT = "6f1a8f6e-0d1c-4d6b-9c8e-2f1f3a1b0c01"
OTHER_PORT = "6f1a8f6e-0d1c-4d6b-9c8e-2f1f3a1b0c02"
INSTANCE = "b6f3c9e2-5a3b-4a51-9d52-6c1f5f7b7a11"

RECORD = PortRecord(
    port_id=PORT,
    project_id="p1",
    device_id=INSTANCE,
    device_owner="compute:nova",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=("10.0.0.5",),
    network_id=OTHER_PORT,
    revision_number=1,
)
TAP = Interface("tap1", ofport=5, iface_id=PORT, vm_uuid=INSTANCE, tag=1)


def test_an_instances_port_is_served() -> None:
    host_ports = join_ports([TAP], {PORT: RECORD})
    assert host_ports.served[5].record == RECORD
    assert host_ports.served[5].disagreement is None
    assert not host_ports.pending
    assert not host_ports.refused


def test_an_iface_id_in_capitals_is_the_same_port() -> None:
    shouting = dataclasses.replace(TAP, iface_id=PORT.upper())
    assert 5 in join_ports([shouting], {PORT: RECORD}).served


@pytest.mark.parametrize("owner", ["network:dhcp", "network:router_interface", "", "xcompute:nova"])
def test_the_ports_of_others_are_not_ours(owner: str) -> None:
    record = dataclasses.replace(RECORD, device_owner=owner)
    host_ports = join_ports([TAP], {PORT: record})
    assert not host_ports.served
    assert not host_ports.pending
    assert not host_ports.refused


def test_a_disabled_port_is_not_served_and_nothing_is_wrong_with_it() -> None:
    disabled = dataclasses.replace(RECORD, admin_state_up=False)
    assert join_ports([TAP], {PORT: disabled}) == HostPorts()


def test_a_port_has_the_options_of_the_deployment() -> None:
    policy = OptionPolicy(options=MetadataOptions(hop_limit=2))
    served = join_ports([TAP], {PORT: RECORD}, policy).served[5]
    assert served.options.options == policy.options


def test_a_tag_of_the_port_tightens_its_options() -> None:
    record = dataclasses.replace(RECORD, tags=("metadata:hop-limit=1", "metadata:tokens=off"))
    options = join_ports([TAP], {PORT: record}).served[5].options
    assert options.options == MetadataOptions(hop_limit=1)
    assert options.decided == (("hop_limit", f"port {PORT}, by its tag"),)


@pytest.mark.parametrize(
    ("tenant_options", "tokens"), [("ignore", "required"), ("tighten", "required"), ("any", "off")]
)
def test_the_deployment_decides_what_a_tag_may_do(
    tenant_options: TenantOptions, tokens: str
) -> None:
    policy = OptionPolicy(options=MetadataOptions(tokens="required"), tenant_options=tenant_options)
    record = dataclasses.replace(RECORD, tags=("metadata:tokens=off", "metadata:hosts=both"))
    options = join_ports([TAP], {PORT: record}, policy).served[5].options
    assert options.options.tokens == tokens
    assert options.unknown == ("metadata:hosts=both",)


def test_no_port_is_decided_while_the_options_are_not_known() -> None:
    host_ports = join_ports([TAP], {PORT: RECORD}, None)
    assert not host_ports.served
    assert host_ports.undecided == {5}


SUBPORT = dataclasses.replace(
    RECORD,
    port_id=OTHER_PORT,
    project_id="p2",
    device_id=PORT,
    device_owner="trunk:subport",
    mac_address="fa:16:3e:00:00:02",
    fixed_ips=("10.1.0.5",),
)
SPI = Interface("spi", ofport=6, iface_id=OTHER_PORT)


def test_a_trunks_sub_port_is_its_parents_instances() -> None:
    served = join_ports([TAP, SPI], {PORT: RECORD, OTHER_PORT: SUBPORT}).served[6].record
    assert (served.port_id, served.device_id, served.project_id) == (OTHER_PORT, INSTANCE, "p1")
    assert (served.fixed_ips, served.mac_address) == (SUBPORT.fixed_ips, SUBPORT.mac_address)
    moved = dataclasses.replace(RECORD, device_id="another")
    assert join_ports([TAP, SPI], {PORT: moved, OTHER_PORT: SUBPORT}).served[
        6
    ].record.device_id == ("another")


@pytest.mark.parametrize(
    "parent",
    [
        None,
        MalformedRecord(PORT, "nonsense"),
        dataclasses.replace(RECORD, device_owner="network:dhcp"),
        # In a trunk itself, or its own parent.
        dataclasses.replace(SUBPORT, port_id=PORT, device_id=PORT),
    ],
)
def test_a_sub_port_whose_parent_is_no_instances_waits(
    parent: PortRecord | MalformedRecord | None,
) -> None:
    host_ports = join_ports([TAP, SPI], {PORT: parent, OTHER_PORT: SUBPORT})
    assert 6 not in host_ports.served
    assert host_ports.pending[6] == OTHER_PORT
    assert 6 not in host_ports.undecided


def test_a_sub_port_is_undecided_until_its_parents_record_was_read() -> None:
    host_ports = join_ports([TAP, SPI], {OTHER_PORT: SUBPORT})
    assert host_ports.undecided == {5, 6}


def test_a_sub_port_whose_parent_is_not_here_waits() -> None:
    host_ports = join_ports([SPI], {OTHER_PORT: SUBPORT})
    assert host_ports.pending == {6: OTHER_PORT}
    assert not host_ports.undecided


def test_a_port_without_iface_id_is_not_ours() -> None:
    host_ports = join_ports([Interface("patch-tun", ofport=2)], {PORT: RECORD})
    assert host_ports == HostPorts()


def test_a_port_on_the_dead_vlan_waits_for_its_wiring() -> None:
    unwired = dataclasses.replace(TAP, tag=4095)
    host_ports = join_ports([unwired], {PORT: RECORD})
    assert host_ports == HostPorts()


def test_a_port_whose_record_was_not_read_yet_is_undecided() -> None:
    host_ports = join_ports([TAP], {})
    assert host_ports.pending == {5: PORT}
    assert host_ports.undecided == {5}


@pytest.mark.parametrize("record", [None, MalformedRecord(PORT, "not JSON")])
def test_a_port_without_a_usable_record_is_pending_and_decided(
    record: MalformedRecord | None,
) -> None:
    host_ports = join_ports([TAP], {PORT: record})
    assert host_ports.pending == {5: PORT}
    assert not host_ports.undecided


@pytest.mark.parametrize("interface", [Interface("tap1", ofport=5, iface_id=PORT), TAP])
def test_without_record_and_vm_uuid_a_port_is_no_instances(interface: Interface) -> None:
    """The tap device of OVN's metadata agent or of Neutron's DHCP agent, for example."""
    host_ports = join_ports([interface], {PORT: None})
    assert bool(host_ports.pending) == bool(interface.vm_uuid)
    assert not host_ports.refused


@pytest.mark.parametrize("records", [{}, {PORT: MalformedRecord(PORT, "not JSON")}])
def test_a_port_without_vm_uuid_may_be_an_instances_until_the_store_has_no_record(
    records: Records,
) -> None:
    assert join_ports([Interface("tap1", ofport=5, iface_id=PORT)], records).pending == {5: PORT}


def test_two_interfaces_of_one_port_are_both_refused() -> None:
    twin = dataclasses.replace(TAP, name="tap2", ofport=6)
    host_ports = join_ports([TAP, twin], {PORT: RECORD})
    assert not host_ports.served
    assert set(host_ports.refused) == {"tap1", "tap2"}


def test_what_is_wrong_with_one_interface_does_not_touch_another() -> None:
    others = [
        Interface("bad", ofport=7, iface_id="not-a-uuid"),
        Interface("unlucky", ofport=43518, iface_id=OTHER_PORT),
    ]
    records = {PORT: RECORD, OTHER_PORT: dataclasses.replace(RECORD, port_id=OTHER_PORT)}
    host_ports = join_ports([TAP, *others], records)
    assert set(host_ports.served) == {5}
    assert "not-a-uuid" in host_ports.refused["bad"]
    assert "43518" in host_ports.refused["unlucky"]


@pytest.mark.parametrize("ofport", [None, -1])
def test_a_port_that_could_not_be_added_is_not_served(ofport: int | None) -> None:
    host_ports = join_ports([dataclasses.replace(TAP, ofport=ofport)], {PORT: RECORD})
    assert not host_ports.served
    assert ("tap1" in host_ports.refused) == (ofport == -1)


def test_a_vm_uuid_that_differs_is_a_disagreement() -> None:
    host_ports = join_ports([dataclasses.replace(TAP, vm_uuid=OTHER_PORT)], {PORT: RECORD})
    assert INSTANCE in str(host_ports.served[5].disagreement)
    assert OTHER_PORT in str(host_ports.served[5].disagreement)


def test_a_missing_vm_uuid_is_none() -> None:
    host_ports = join_ports([dataclasses.replace(TAP, vm_uuid=None)], {PORT: RECORD})
    assert host_ports.served[5].disagreement is None


OTHER = Interface("tap2", ofport=6, iface_id=OTHER_PORT, tag=1)
BOTH = {PORT: RECORD, OTHER_PORT: dataclasses.replace(RECORD, port_id=OTHER_PORT)}


def test_numbers_that_are_being_renumbered_have_no_identity() -> None:
    """Before OVSDB says who has a number, packets of its new port come in by it."""
    host_ports = join_ports([dataclasses.replace(TAP, ofport_request=6), OTHER], BOTH)
    assert not host_ports.served
    assert host_ports.pending == {5: PORT, 6: OTHER_PORT}
    assert not host_ports.undecided


def test_a_port_that_has_the_number_it_asks_for_is_served() -> None:
    interfaces = [dataclasses.replace(each, ofport_request=each.ofport) for each in (TAP, OTHER)]
    assert join_ports(interfaces, BOTH).served.keys() == {5, 6}


def test_a_number_is_not_taken_from_a_port_that_asks_for_it_too() -> None:
    interfaces = [
        dataclasses.replace(TAP, ofport_request=6),
        dataclasses.replace(OTHER, ofport_request=6),
    ]
    assert join_ports(interfaces, BOTH).served.keys() == {5, 6}


def test_a_port_that_asks_for_a_free_number_is_about_to_get_it() -> None:
    host_ports = join_ports([dataclasses.replace(TAP, ofport_request=77), OTHER], BOTH)
    assert host_ports.served.keys() == {6}
    assert host_ports.pending == {5: PORT}


def test_a_port_without_a_number_disturbs_no_other_by_asking_for_one() -> None:
    host_ports = join_ports([dataclasses.replace(TAP, ofport=None, ofport_request=6), OTHER], BOTH)
    assert host_ports.served.keys() == {6}


def test_an_interface_that_open_vswitch_could_not_add_is_no_rival() -> None:
    failed = dataclasses.replace(TAP, name="tap-left-over", ofport=-1)
    assert set(join_ports([TAP, failed], {PORT: RECORD}).served) == {5}


# Behind the parent's interface, in a VLAN, as under OVN.
VLAN = 100
PLACE = place_of(5, VLAN)
PARENT = dataclasses.replace(RECORD, sub_ports=(SubPort(VLAN, OTHER_PORT),))


def behind(parent: PortRecord = PARENT, sub_port: PortState = SUBPORT) -> HostPorts:
    return join_ports([TAP], {PORT: parent, OTHER_PORT: sub_port})


def test_a_sub_port_without_an_interface_is_served_behind_its_parents() -> None:
    host_ports = behind()
    assert list(host_ports.served) == [5, PLACE]
    served = host_ports.served[PLACE]
    assert (served.ofport, served.vlan, served.place) == (5, VLAN, PLACE)
    assert (served.record.port_id, served.record.device_id) == (OTHER_PORT, INSTANCE)
    assert served.record.mac_address == SUBPORT.mac_address
    assert served.disagreement is None


def test_a_sub_port_with_an_interface_is_served_there_alone() -> None:
    host_ports = join_ports([TAP, SPI], {PORT: PARENT, OTHER_PORT: SUBPORT})
    assert set(host_ports.served) == {5, 6}


@pytest.mark.parametrize(
    "sub_port",
    [
        dataclasses.replace(SUBPORT, device_id=INSTANCE),  # of another trunk
        dataclasses.replace(SUBPORT, device_owner=""),  # of none any more
        dataclasses.replace(SUBPORT, device_owner="compute:nova"),  # of an instance, itself
    ],
)
def test_a_sub_port_whose_record_says_otherwise_is_not_behind_the_interface(
    sub_port: PortRecord,
) -> None:
    host_ports = behind(sub_port=sub_port)
    assert set(host_ports.served) == {5}
    assert not host_ports.pending


def test_a_sub_port_behind_an_interface_is_undecided_until_its_record_was_read() -> None:
    host_ports = join_ports([TAP], {PORT: PARENT})
    assert host_ports.pending == {PLACE: OTHER_PORT}
    assert host_ports.undecided == {PLACE}


@pytest.mark.parametrize(
    "state", [None, MalformedRecord(OTHER_PORT, "nonsense"), BoundElsewhere(SUBPORT)]
)
def test_a_sub_port_without_a_usable_record_waits(state: PortState) -> None:
    host_ports = behind(sub_port=state)
    assert host_ports.pending == {PLACE: OTHER_PORT}
    assert not host_ports.undecided


def test_a_disabled_port_of_a_trunk_costs_the_others_nothing() -> None:
    disabled = dataclasses.replace(SUBPORT, admin_state_up=False)
    assert set(behind(sub_port=disabled).served) == {5}
    assert set(behind(dataclasses.replace(PARENT, admin_state_up=False)).served) == {PLACE}


def test_vm_uuid_of_the_interface_counts_for_its_sub_ports() -> None:
    host_ports = behind(dataclasses.replace(PARENT, device_id="another"))
    assert all(port.disagreement for port in host_ports.served.values())


def test_two_trunks_that_claim_one_port_have_it_refused() -> None:
    other = Interface("tap2", ofport=7, iface_id=PORT, vm_uuid=INSTANCE)
    host_ports = join_ports([TAP, other], {PORT: PARENT, OTHER_PORT: SUBPORT})
    assert set(host_ports.refused) == {"tap1", "tap1 VLAN 100", "tap2", "tap2 VLAN 100"}
    assert not host_ports.served


def test_an_interface_that_is_not_wired_or_moves_has_no_sub_ports_either() -> None:
    dead = dataclasses.replace(TAP, tag=4095)
    assert join_ports([dead], {PORT: PARENT, OTHER_PORT: SUBPORT}) == HostPorts()
    moving = dataclasses.replace(TAP, ofport_request=9)
    host_ports = join_ports([moving], {PORT: PARENT, OTHER_PORT: SUBPORT})
    assert set(host_ports.pending) == {5, PLACE}
    assert not host_ports.served
