"""Tells a guest whose hooks are new which MAC the service address has over IPv6. Pure.

A guest may hold another MAC for it, from whoever answered there until now. Over IPv6 its requests
would then pass the hook, until its kernel asks again: that takes 11 to 39 seconds. An unsolicited
advertisement (RFC 4861, section 7.2.6) replaces what it holds, and makes no entry where there is
none. Over IPv4 any MAC will do.
"""

from collections.abc import Iterable

from ovs_metadata.flows.family import ETH_IPV6
from ovs_metadata.flows.tables import ofport_of
from ovs_metadata.flows.values import Flow


def ports_to_tell(added: Iterable[Flow]) -> list[int]:
    """The ofports among whose new flows is the hook for requests over IPv6."""
    told = []
    for flow in added:
        fields = dict(flow.key.match.fields)
        if flow.key.table == 0 and fields.get("eth_type") == ETH_IPV6 and "tcp_dst" in fields:
            told.append(ofport_of(flow.cookie))
    return told
