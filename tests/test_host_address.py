"""Port addresses: a formula, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from ovs_metadata.host import address
from ovs_metadata.host.address import IpVersion, ofport_of, port_address, why_unservable

servable = st.integers(1, address.OFPORT_MAX).filter(
    lambda ofport: ofport != address.OFPORT_OF_SERVICE_ADDRESS
)
versions = st.sampled_from([4, 6])


@given(servable, versions)
def test_an_ofport_comes_back_from_its_port_address(ofport: int, version: IpVersion) -> None:
    assert ofport_of(port_address(ofport, version)) == ofport


@given(servable, versions)
def test_port_addresses_are_link_local_and_never_the_service_address(
    ofport: int, version: IpVersion
) -> None:
    ip = IPAddress(port_address(ofport, version))
    assert ip.is_link_local()
    assert str(ip) not in (address.SERVICE_IPV4, address.SERVICE_IPV6)
    network = address.PORT_NETWORK_IPV4 if version == 4 else address.PORT_NETWORK_IPV6
    assert ip in IPNetwork(network)


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


@pytest.mark.parametrize("ofport", [-1, 0, 65280, 65534, 43518])
def test_other_ofports_have_no_port_address(ofport: int) -> None:
    assert why_unservable(ofport)
    with pytest.raises(ValueError, match=str(ofport)):
        port_address(ofport)


def test_the_clash_with_the_service_address_says_what_to_do() -> None:
    assert "plug" in str(why_unservable(43518))


@pytest.mark.parametrize(
    "text",
    ["169.254.169.254", "169.254.0.0", "169.254.255.255", "10.0.0.5", "fe80::a9fe:a9fe", "fe80::1"],
)
def test_other_addresses_have_no_ofport(text: str) -> None:
    assert ofport_of(text) is None


def test_the_zone_of_an_ipv6_peer_is_ignored() -> None:
    assert ofport_of("fe80::a9fe:5%metadata") == 5
