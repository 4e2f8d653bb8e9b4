"""Which guests get an advertisement when their hooks are new."""

from lab.rig.neighbor_discovery import Advertisement, parse_advertisement
from ovs_metadata.flows.announcement import places_to_advertise_to
from ovs_metadata.flows.flow_message import table_of
from ovs_metadata.flows.packets import unsolicited_advertisement
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.wire import add_message
from ovs_metadata.host.address import METADATA_PORT_MAC, SERVICE_IPV6, place_of
from ovs_metadata.host.config import FlowOptions


def test_it_replaces_whatever_mac_a_guest_holds_for_the_service() -> None:
    assert parse_advertisement(unsolicited_advertisement(METADATA_PORT_MAC)) == Advertisement(
        eth_source=METADATA_PORT_MAC,
        eth_destination="33:33:00:00:00:01",
        source=SERVICE_IPV6,
        destination="ff02::1",
        hop_limit=255,
        target=SERVICE_IPV6,
        router=False,
        solicited=False,
        override=True,
        target_mac=METADATA_PORT_MAC,
        checksum_is_right=True,
    )


def test_a_sub_ports_is_in_its_vlan() -> None:
    untagged, tagged = (unsolicited_advertisement(METADATA_PORT_MAC, vlan) for vlan in (0, 42))
    assert tagged == untagged[:12] + bytes.fromhex("8100002a") + untagged[12:]


def test_each_port_with_new_hooks_gets_one_advertisement() -> None:
    mac = "fa:16:3e:00:00:01"
    flows = pipeline(FlowOptions(), 1, [Port(2, mac), Port(2, mac, vlan=42), Port(7, mac)])
    added = [add_message(FlowOptions(), flow) for flow in flows.values()]
    assert places_to_advertise_to(added) == [2, place_of(2, 42), 7]
    assert places_to_advertise_to(each for each in added if table_of(each)) == []
