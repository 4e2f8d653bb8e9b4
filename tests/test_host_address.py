"""Port addresses: a formula, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from ovs_metadata.host import address
from ovs_metadata.host.address import (
    IpVersion,
    ofport_at,
    place_of,
    place_of_address,
    port_address,
    vlan_at,
    why_unservable,
)

servable = st.integers(1, address.OFPORT_MAX).filter(
    lambda ofport: ofport != address.OFPORT_OF_SERVICE_ADDRESS
)
vlans = st.integers(1, address.VLAN_MAX)
versions = st.sampled_from([4, 6])


@given(servable, st.just(0) | vlans, versions)
def test_ofport_and_vlan_come_back_from_their_port_address(
    ofport: int, vlan: int, version: IpVersion
) -> None:
    place = place_of_address(port_address(place_of(ofport, vlan), version))
    assert place is not None
    assert (ofport_at(place), vlan_at(place)) == (ofport, vlan)


@given(servable, versions)
def test_port_addresses_are_link_local_and_never_the_service_address(
    ofport: int, version: IpVersion
) -> None:
    ip = IPAddress(port_address(ofport, version))
    assert place_of(ofport) == ofport
    assert ip.is_link_local()
    assert str(ip) not in (address.SERVICE_IPV4, address.SERVICE_IPV6)
    network = address.PORT_NETWORK_IPV4 if version == 4 else address.PORT_NETWORK_IPV6
    assert ip in IPNetwork(network)


@given(servable, vlans, versions)
def test_port_addresses_of_sub_ports_have_networks_of_their_own(
    ofport: int, vlan: int, version: IpVersion
) -> None:
    ip = IPAddress(port_address(place_of(ofport, vlan), version))
    own = address.SUBPORT_NETWORK_IPV4 if version == 4 else address.SUBPORT_NETWORK_IPV6
    others = address.PORT_NETWORK_IPV4 if version == 4 else address.PORT_NETWORK_IPV6
    assert ip in IPNetwork(own)
    assert ip not in IPNetwork(others)


@given(servable, vlans, versions)
def test_port_addresses_of_sub_ports_are_written_in_the_usual_form(
    ofport: int, vlan: int, version: IpVersion
) -> None:
    written = port_address(place_of(ofport, vlan), version)
    assert written == str(IPAddress(written))


@pytest.mark.parametrize("version", [4, 6])
def test_port_addresses_are_written_in_the_usual_form(version: IpVersion) -> None:
    for ofport in range(1, address.OFPORT_MAX + 1):
        if ofport != address.OFPORT_OF_SERVICE_ADDRESS:
            written = port_address(ofport, version)
            assert written == str(IPAddress(written))


def test_the_formula_is_the_documented_one() -> None:
    assert port_address(5) == "169.254.0.5"
    assert port_address(256) == "169.254.1.0"
    assert port_address(5, 6) == "fe80::a9fe:5"
    assert port_address(65279, 6) == "fe80::a9fe:feff"
    assert port_address(place_of(5, 1)) == "240.1.0.5"
    assert port_address(place_of(256, 4094)) == "255.254.1.0"
    assert port_address(place_of(5, 100), 6) == "fe80::a9fe:64:5"
    assert port_address(place_of(65279, 4094), 6) == "fe80::a9fe:ffe:feff"


def test_the_reserved_vlan_has_no_port_address() -> None:
    with pytest.raises(ValueError, match="VLAN 4095"):
        port_address(place_of(5, 4095))


@pytest.mark.parametrize("ofport", [-1, 0, 65280, 65534, 43518])
def test_other_ofports_have_no_port_address(ofport: int) -> None:
    assert why_unservable(ofport)
    with pytest.raises(ValueError, match=str(ofport)):
        port_address(ofport)


def test_the_clash_with_the_service_address_says_what_to_do() -> None:
    assert "plug" in str(why_unservable(43518))


@pytest.mark.parametrize(
    "text",
    [
        *("169.254.169.254", "169.254.0.0", "169.254.255.255", "10.0.0.5"),
        *("fe80::a9fe:a9fe", "fe80::1"),
        # Without a VLAN, in the reserved one, and of ofports that no instance can have.
        *("240.0.0.5", "255.255.0.5", "240.1.0.0", "240.1.255.255", "240.1.169.254"),
        *("fe80::a9fe:0:5", "fe80::a9fe:fff:5", "fe80::a9fe:1000:5", "fe80::a9fe:1:0"),
    ],
)
def test_other_addresses_have_no_place(text: str) -> None:
    assert place_of_address(text) is None


def test_the_zone_of_an_ipv6_peer_is_ignored() -> None:
    assert place_of_address("fe80::a9fe:5%metadata") == 5
