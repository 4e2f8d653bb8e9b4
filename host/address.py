"""Addresses: the service address, the metadata port's, and the formula that names a port.

A port address carries the ofport in its low 16 bits, so the switch writes it and the proxy reads
it back with no table between them. That of a trunk's sub-port, whose frames come in at its parent's
interface, carries the VLAN in the bits above. Pure functions; no state, no I/O.

A place is where a port's frames come in, as one number: the VLAN times 65536, plus the ofport. That
of a port with an interface of its own is its ofport.
"""

from collections.abc import Mapping
from typing import Literal

from netaddr import EUI, IPAddress, mac_unix_expanded

IpVersion = Literal[4, 6]

SERVICE_IPV4 = "169.254.169.254"
SERVICE_IPV6 = "fe80::a9fe:a9fe"
SERVICE_PORT = 80

PORT_NETWORK_IPV4 = "169.254.0.0/16"
PORT_NETWORK_IPV6 = "fe80::a9fe:0/112"
SUBPORT_NETWORK_IPV4 = "240.0.0.0/4"
SUBPORT_NETWORK_IPV6 = "fe80::a9fe:0:0/96"
"""The port addresses of sub-ports. No host has an address of 240.0.0.0/4 (RFC 1112, section 4)."""

PORT_NETWORKS: Mapping[IpVersion, tuple[str, str]] = {
    4: (PORT_NETWORK_IPV4, SUBPORT_NETWORK_IPV4),
    6: (PORT_NETWORK_IPV6, SUBPORT_NETWORK_IPV6),
}
"""All port addresses: of ports with an interface of their own, and of sub-ports."""

_FIRST = {
    4: int(IPAddress("169.254.0.0")),
    6: int(IPAddress("fe80::a9fe:0")),
}
_FIRST_OF_SUBPORTS = {
    4: int(IPAddress("240.0.0.0")),
    6: int(IPAddress("fe80::a9fe:0:0")),
}

PROXY_PORT = 9699
"""TCP port of the listening sockets inside the metadata port's namespace.

Earlier releases, which put the port address into the source of a request, have 9697 and 9698. So
no flow and no worker of theirs meets a flow or a worker of this release.
"""

METADATA_PORT = "metadata"
"""Name of the OVS internal port that leads to the proxy."""

METADATA_PORT_MAC = str(EUI("02-00-a9-fe-a9-fe", dialect=mac_unix_expanded))
"""Locally administered MAC of the metadata port, and of the service address on every network."""

GUESTS_MAC = str(EUI("02-00-a9-fe-00-00", dialect=mac_unix_expanded))
"""MAC that all guests have in front of the proxy. No device owns it."""

METADATA_PORT_MTU = 1500
"""MTU of the metadata port.

Without one of its own, Open vSwitch gives it the smallest MTU of the bridge's ports.
"""

GUESTS_GATEWAY_IPV4 = "192.0.2.1"
GUESTS_GATEWAY_IPV6 = "fe80::1"
"""The gateway by which the proxy's kernel sends all packets to guests.

Its MAC is GUESTS_MAC, and no packet has its address: a guest may have the same one.
"""

LEAST_PATH_MTU = 1280
"""Bytes of a packet that fit the way to any guest; the least that IPv6 allows (RFC 8200)."""

OFPORT_MAX = 65279
"""The highest number Open vSwitch gives to a port (OFPP_MAX is 0xff00)."""

OFPORT_OF_SERVICE_ADDRESS = 0xA9FE
"""The one ofport whose port address would be the service address itself: it is never served."""


VLAN_MAX = 4094
"""The highest VLAN; 4095 is reserved (IEEE 802.1Q)."""


def place_of(ofport: int, vlan: int = 0) -> int:
    """The place of a VLAN behind an ofport; VLAN 0 is the interface itself."""
    return vlan << 16 | ofport


def ofport_at(place: int) -> int:
    """The ofport of a place."""
    return place & 0xFFFF


def vlan_at(place: int) -> int:
    """The VLAN of a place, 0 for the interface itself."""
    return place >> 16


def port_address(place: int, version: IpVersion = 4) -> str:
    """The address of the port at a place, as the proxy sees it.

    Raises:
        ValueError: no instance can have its ofport, see `why_unservable`; or there is no such VLAN.
    """
    # Fast, because each change of any port calls it for every port of the host.
    vlan, ofport = place >> 16, place & 0xFFFF
    reason = why_unservable(ofport if place >= 0 else place)
    if reason:
        raise ValueError(reason)
    if not vlan:
        return (
            f"fe80::a9fe:{ofport:x}" if version == 6 else f"169.254.{ofport >> 8}.{ofport & 0xFF}"
        )
    if vlan > VLAN_MAX:
        raise ValueError(f"there is no VLAN {vlan}")
    if version == 6:
        return f"fe80::a9fe:{vlan:x}:{ofport:x}"
    return f"{0xF0 | vlan >> 8}.{vlan & 0xFF}.{ofport >> 8}.{ofport & 0xFF}"


def place_of_address(address: str) -> int | None:
    """The place whose port address this is; None for another address.

    An IPv6 zone (`%metadata`) is ignored. Raises netaddr's AddrFormatError on text that is no
    address at all.
    """
    ip = IPAddress(address.partition("%")[0])
    place = int(ip) - _FIRST[ip.version]
    if not 0 < place <= 0xFFFF:
        place = int(ip) - _FIRST_OF_SUBPORTS[ip.version]
        if not 0 < vlan_at(place) <= VLAN_MAX:
            return None
    return None if why_unservable(ofport_at(place)) else place


def why_unservable(ofport: int) -> str | None:
    """Why this ofport has no port address, in words for an operator; None when it has one."""
    if ofport == OFPORT_OF_SERVICE_ADDRESS:
        return (
            f"ofport {ofport} would be {SERVICE_IPV4}, the service address itself: "
            "unplug the port and plug it again to get another number"
        )
    if not 0 < ofport <= OFPORT_MAX:
        return f"ofport {ofport} is outside 1 to {OFPORT_MAX}: Open vSwitch could not add the port"
    return None
