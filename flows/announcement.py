"""Finds the guests that need an advertisement of the service address's MAC over IPv6. Pure.

A guest may hold the MAC of the service that answered before. Its requests over IPv6 then pass the
hook until its kernel asks again, after 11 to 39 seconds. An unsolicited advertisement (RFC 4861,
section 7.2.6) replaces that MAC, and adds no entry where there is none. Over IPv4 any MAC works.
"""

from collections.abc import Iterable

from ovs_metadata.flows.family import ETH_IPV6
from ovs_metadata.flows.tables import place_of_cookie
from ovs_metadata.flows.values import Flow


def places_to_advertise_to(added: Iterable[Flow]) -> list[int]:
    """The places among whose new flows is the hook for requests over IPv6."""
    places = []
    for flow in added:
        fields = dict(flow.key.match.fields)
        if flow.key.table == 0 and fields.get("eth_type") == ETH_IPV6 and "tcp_dst" in fields:
            places.append(place_of_cookie(flow.cookie))
    return places
