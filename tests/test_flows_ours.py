"""Which flows are ours: table, priority, match and cookie, all four."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.flows.earlier import earlier_flows
from ovs_metadata.flows.ours import is_ours
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import (
    COOKIE_MASK,
    COOKIE_PREFIX,
    FILTER_MASK,
    FIRST_PREFIX,
    cookie,
    has_our_cookie,
    ofport_of,
)
from ovs_metadata.flows.values import FlowKey, Match
from ovs_metadata.flows.wire import add_message, delete_message
from ovs_metadata.flows.withdrawal import Connection, hook_of
from ovs_metadata.host.address import place_of
from ovs_metadata.host.config import FlowOptions

OPTIONS = FlowOptions()
PORT = Port(2, "fa:16:3e:00:00:01")
FLOWS = pipeline(OPTIONS, 1, [PORT])
OF_SUB_PORT = {
    key: flow
    for key, flow in pipeline(OPTIONS, 1, [Port(2, "fa:16:3e:00:00:02", vlan=42)]).items()
    if ofport_of(flow.cookie)
}

NEUTRONS = [
    FlowKey(0, 0, Match.of()),
    FlowKey(0, 9, Match.of(in_port=2)),
    FlowKey(0, 10, Match.of(in_port=2, eth_type=0x0806)),
    FlowKey(0, 65535, Match.of(vlan_vid=0x1FFF)),
    FlowKey(0, OPTIONS.priority, Match.of(in_port=2)),
    FlowKey(0, OPTIONS.priority, Match.of(in_port=2, eth_type=0x0800, ip_proto=6)),
    FlowKey(23, 0, Match.of()),
    FlowKey(60, 3, Match.of()),
    *(FlowKey(table, 7, Match.of(eth_type=0x0800, ip_proto=17)) for table in range(200, 206)),
    FlowKey(200, 200, Match.of(in_port=2, eth_type=0x0800, ip_proto=17)),
    FlowKey(203, 100, Match.of(eth_type=0x0800, ip_proto=6, ipv4_dst="192.0.2.1")),
    FlowKey(206, 0, Match.of()),
]
"""Flows of other programs, some of them very similar to ours."""

COLLIDING = [COOKIE_PREFIX | 0x4242BEEF, FIRST_PREFIX | 0x4242, cookie(2), FIRST_PREFIX | 2]
"""Cookies that others may draw, too."""


@pytest.mark.parametrize("key", NEUTRONS, ids=str)
def test_no_cookie_makes_another_flow_ours(key: FlowKey) -> None:
    for each in COLLIDING:
        assert has_our_cookie(each)
        assert not is_ours(OPTIONS, key, each)


@pytest.mark.parametrize("key", OF_SUB_PORT, ids=str)
def test_a_sub_ports_flow_is_ours_under_the_cookie_of_its_ofport_and_vlan(key: FlowKey) -> None:
    mine = OF_SUB_PORT[key].cookie
    assert mine == cookie(place_of(2, 42))
    assert is_ours(OPTIONS, key, mine)
    others = (place_of(2), place_of(2, 43), place_of(2, 4095), place_of(3, 42), 0)
    assert not any(is_ours(OPTIONS, key, cookie(place)) for place in others)
    other_vlan = [(name, 0x102B if name == "vlan_vid" else of) for name, of in key.match.fields]
    other = FlowKey(key.table, key.priority, Match.of(**dict(other_vlan)))
    assert is_ours(OPTIONS, other, mine) == (other == key)


@pytest.mark.parametrize("key", FLOWS, ids=str)
def test_a_flow_like_ours_with_another_cookie_is_not_ours(key: FlowKey) -> None:
    mine = FLOWS[key].cookie
    assert is_ours(OPTIONS, key, mine)
    for another in (0, 0x77, 0xA9FE4242DEADBEEF, mine ^ 1 << 63, mine ^ 1 << 32):
        assert not is_ours(OPTIONS, key, another)
    assert not is_ours(OPTIONS, key, mine ^ 7), "of another port"


@given(st.integers(0, 2**32 - 1))
def test_a_hook_is_ours_under_one_cookie_of_a_generation(low: int) -> None:
    for key, flow in FLOWS.items():
        if key.table == 0 and flow.cookie == cookie(2):
            assert is_ours(OPTIONS, key, COOKIE_PREFIX | low) == (low & 0xFFF0FFFF == 2)


@pytest.mark.parametrize("prefix", [FIRST_PREFIX, COOKIE_PREFIX | 2 << 16])
def test_flows_of_earlier_generations_are_ours(prefix: int) -> None:
    for key, flow in FLOWS.items():
        assert is_ours(OPTIONS, key, prefix | flow.cookie & 0xFFFF)
    for key, ofport in earlier_flows():
        assert is_ours(OPTIONS, key, prefix | ofport)
        assert not is_ours(OPTIONS, key, prefix | ofport ^ 1)


def test_an_earlier_flow_is_ours_even_if_a_fixed_ip_was_the_ports_address() -> None:
    match = Match.of(
        in_port=2, eth_src=PORT.mac, eth_type=0x0800, ip_proto=6, ipv4_src="169.254.0.2"
    )
    assert is_ours(OPTIONS, FlowKey(200, 300, match), COOKIE_PREFIX | 2 << 16 | 2)


@pytest.mark.parametrize("version", [4, 6])
def test_the_hook_of_a_connection_is_ours(version: int) -> None:
    for tcp_port in (1, 40000):
        hook = hook_of(OPTIONS, Connection(4 if version == 4 else 6, 2, tcp_port))
        assert is_ours(OPTIONS, hook.key, hook.cookie)
        assert not is_ours(OPTIONS, hook.key, cookie(3))


@pytest.mark.parametrize("field", [("ipv4_dst", "169.254.0.2"), ("ipv6_dst", "fe80::a9fe:2")])
def test_what_the_switch_learned_for_an_earlier_generation_is_ours(field: tuple[str, str]) -> None:
    name, address = field
    eth_type = 0x0800 if name == "ipv4_dst" else 0x86DD
    match = Match.of(eth_type=eth_type, ip_proto=6, tcp_dst=40000, **{name: address})
    learned = FlowKey(203, 100, match)
    assert is_ours(OPTIONS, learned, cookie(2))
    assert not is_ours(OPTIONS, learned, cookie(3))


def test_hooks_are_ours_after_their_priority_was_changed() -> None:
    options = replace(OPTIONS, priority=7)
    for key, flow in FLOWS.items():
        if key.table == 0:
            # That of the metadata port matches nothing but a port's number.
            assert is_ours(options, key, flow.cookie) == (flow.cookie != cookie())


def test_other_tables_are_not_ours() -> None:
    options = replace(OPTIONS, table_base=100)
    for key, flow in FLOWS.items():
        assert is_ours(options, key, flow.cookie) == (key.table == 0)


def test_the_filter_lets_through_the_cookies_of_all_generations_and_few_others() -> None:
    assert COOKIE_PREFIX >> 62 != 0b10, "half of a UUID of variant 1"
    for ours in (cookie(), cookie(65279), FIRST_PREFIX, FIRST_PREFIX | 65279):
        assert ours & FILTER_MASK == COOKIE_PREFIX & FILTER_MASK
    assert FILTER_MASK & ~COOKIE_MASK == 0
    assert FILTER_MASK.bit_count() > 16


def test_no_message_can_be_made_about_a_flow_of_others() -> None:
    (flow,) = (each for key, each in FLOWS.items() if dict(key.match.fields) == {"in_port": 1})
    for key in NEUTRONS:
        with pytest.raises(ValueError, match="is not our flow"):
            add_message(OPTIONS, replace(flow, key=key, cookie=cookie(2)))
        with pytest.raises(ValueError, match="is not our flow"):
            delete_message(OPTIONS, key, cookie(2))
    assert add_message(OPTIONS, flow)
    assert delete_message(OPTIONS, flow.key, flow.cookie)
