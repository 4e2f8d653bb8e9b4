"""Each peer of the admin listener has a share of its own."""

from ovs_metadata.agent.admin import peer_allowances
from ovs_metadata.agent.admin.peer_allowances import PeerAllowances


def taken(shares: PeerAllowances, *addresses: str) -> list[bool]:
    return [shares.take(each, 0.0) for each in addresses]


def test_one_peer_cannot_take_the_share_of_another() -> None:
    shares = PeerAllowances(2, 1.0)
    assert taken(shares, "10.0.0.1", "10.0.0.1", "10.0.0.1") == [True, True, False]
    assert taken(shares, "10.0.0.2") == [True]
    assert shares.take("10.0.0.1", 1.0)


def test_all_addresses_of_an_ipv6_host_are_one_peer() -> None:
    shares = PeerAllowances(1, 1.0)
    assert taken(shares, "2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1") == [True, False, True]
    assert taken(shares, "fe80::1%eth0", "fe80::2%eth0") == [True, False]


def test_so_many_peers_are_remembered() -> None:
    shares = PeerAllowances(1, 1.0)
    most = peer_allowances.MAX_PEERS
    assert all(taken(shares, *(f"10.0.{n // 256}.{n % 256}" for n in range(most))))
    assert taken(shares, "10.0.0.0", "10.9.9.9") == [False, True]
    assert taken(shares, "10.0.0.1") == [True], "it was away for longest"
