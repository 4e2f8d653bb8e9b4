"""Finds the guests that need an advertisement of the service address's MAC over IPv6. Pure.

A guest may hold the MAC of the service that answered before. Its requests over IPv6 then pass the
hook until its kernel asks again, after 11 to 39 seconds. An unsolicited advertisement (RFC 4861,
section 7.2.6) replaces that MAC, and adds no entry where there is none. Over IPv4 any MAC works.
"""

from collections.abc import Iterable

from ovs_metadata.flows.family import ETH_IPV6
from ovs_metadata.flows.flow_message import cookie_of, table_of
from ovs_metadata.flows.oxm import encode
from ovs_metadata.flows.tables import place_of_cookie
from ovs_metadata.host.address import SERVICE_PORT

_OVER_IPV6, _A_REQUEST = encode("eth_type", ETH_IPV6), encode("tcp_dst", SERVICE_PORT)
"""Fields of a match."""


def places_to_advertise_to(added: Iterable[bytes]) -> list[int]:
    """The places among whose new flows, as messages, is the hook for requests over IPv6."""
    return [
        place_of_cookie(cookie_of(message))
        for message in added
        if table_of(message) == 0 and _OVER_IPV6 in message and _A_REQUEST in message
    ]
