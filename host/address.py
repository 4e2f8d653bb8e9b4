"""Addresses: the service address, the metadata port's, and the formula that names a port.

A port address carries the ofport in its low 16 bits, so the switch writes it and the proxy reads
it back with no table between them. Pure functions; no state, no I/O.
"""

from typing import Literal

from netaddr import EUI, IPAddress, mac_unix_expanded

IpVersion = Literal[4, 6]

SERVICE_IPV4 = "169.254.169.254"
SERVICE_IPV6 = "fe80::a9fe:a9fe"
SERVICE_PORT = 80

PORT_NETWORK_IPV4 = "169.254.0.0/16"
PORT_NETWORK_IPV6 = "fe80::a9fe:0/112"
_FIRST = {
    4: int(IPAddress("169.254.0.0")),
    6: int(IPAddress("fe80::a9fe:0")),
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


def port_address(ofport: int, version: IpVersion = 4) -> str:
    """The link-local address of an ofport, as the proxy sees it.

    Raises:
        ValueError: no instance can have this ofport, see `why_unservable`.
    """
    reason = why_unservable(ofport)
    if reason:
        raise ValueError(reason)
    # Fast, because each change of any port calls it for every port of the host.
    return f"fe80::a9fe:{ofport:x}" if version == 6 else f"169.254.{ofport >> 8}.{ofport & 0xFF}"


def ofport_of(address: str) -> int | None:
    """The ofport of a port address; None for another address.

    An IPv6 zone (`%metadata`) is ignored. Raises netaddr's AddrFormatError on text that is no
    address at all.
    """
    ip = IPAddress(address.partition("%")[0])
    ofport = int(ip) - _FIRST[ip.version]
    if not 0 < ofport <= 0xFFFF or why_unservable(ofport):
        return None
    return ofport


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
