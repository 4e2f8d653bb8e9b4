"""How often each peer may begin something: a share of its own, so that none takes all. Pure."""

import ipaddress
from collections import OrderedDict

from ovs_metadata.agent.allowance import Allowance

MAX_PEERS = 256
"""Peers that are remembered; one more replaces the one that was away for longest."""


class PeerAllowances:
    """An allowance for each peer, full when the peer is first seen."""

    def __init__(self, at_once: int, per_second: float) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._of: OrderedDict[str, Allowance] = OrderedDict()

    def take(self, address: str, now: float) -> bool:
        """Take a token of this address's peer; False if there is none."""
        peer = peer_of(address)
        if peer not in self._of:
            self._of[peer] = Allowance(self._at_once, self._per_second, now)
        self._of.move_to_end(peer)
        if len(self._of) > MAX_PEERS:
            self._of.popitem(last=False)
        return self._of[peer].take(now)


def peer_of(address: str) -> str:
    """The peer of an IP address: an IPv6 host has all addresses of its /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
