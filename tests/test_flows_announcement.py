"""Which guests get an advertisement when their hooks are new."""

from lab.rig.neighbor_discovery import Advertisement, parse_advertisement
from ovs_metadata.flows.announcement import ports_to_advertise_to
from ovs_metadata.flows.packets import unsolicited_advertisement
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.host.address import METADATA_PORT_MAC, SERVICE_IPV6
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


def test_each_port_with_new_hooks_gets_one_advertisement() -> None:
    ports = [Port(2, "fa:16:3e:00:00:01"), Port(7, "fa:16:3e:00:00:02")]
    flows = pipeline(FlowOptions(), 1, ports)
    assert ports_to_advertise_to(flows.values()) == [2, 7]
    assert ports_to_advertise_to(flow for key, flow in flows.items() if key.table) == []
