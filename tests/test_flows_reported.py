"""What the switch reports of flows: ours are read, and those of others are not."""

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.flow_changes import message_of
from ovs_metadata.flows import reported, wire
from ovs_metadata.flows.flow_message import WireKey, key_of
from ovs_metadata.flows.oxm import encode
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import COOKIE_PREFIX, FIRST_PREFIX, cookie
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import FlowOptions

OPTIONS = FlowOptions()
FLOWS = pipeline(OPTIONS, 1, [Port(2, "fa:16:3e:00:00:01")])
SEND_FLOW_REM = 1
"""OFPFF_SEND_FLOW_REM of OpenFlow 1.3."""


def _key(flow: Flow) -> WireKey:
    return key_of(message_of(flow))


def _stats(
    key: WireKey, of_cookie: int, instructions: bytes = b"", flags: int = 1
) -> reported.DumpedStats:
    """A flow as a dump has it: ofp_flow_stats of OpenFlow 1.3."""
    table, priority, match = key
    body = match + instructions
    head = struct.pack(
        *("!HBxIIHHHH4xQQQ", 48 + len(body), table, 1, 2, priority, 0, 0, flags, of_cookie, 6, 7)
    )
    return reported.DumpedStats(head + body)


def _removed(key: WireKey, of_cookie: int) -> reported.RemovedFlow:
    """A FLOW_REMOVED of OpenFlow 1.3."""
    table, priority, match = key
    fixed = struct.pack("!QHBBIIHHQQ", of_cookie, priority, 2, table, 1, 2, 0, 0, 6, 7)
    body = fixed + match
    header = struct.pack("!BBHI", 4, 11, 8 + len(body), 1)
    return reported.RemovedFlow(header + body)


def _dumped(flow: Flow, flags: int = SEND_FLOW_REM) -> reported.DumpedStats:
    actions = wire.instructions(flow.actions)
    return _stats(_key(flow), flow.cookie, actions, flags)


@pytest.mark.parametrize("flow", FLOWS.values(), ids=lambda flow: flow.note)
def test_our_flows_are_read_as_they_were_sent(flow: Flow) -> None:
    removed = _removed(_key(flow), flow.cookie)
    for each in (_dumped(flow), removed):
        assert reported.our_key(OPTIONS, each) == flow.key
        assert reported.wire_key(each) == _key(flow)
    assert reported.same_content(_dumped(flow), flow)
    assert _dumped(flow).message == wire.add_message(OPTIONS, flow)


@pytest.mark.parametrize("flow", FLOWS.values(), ids=lambda flow: flow.note)
def test_the_order_in_which_a_switch_has_the_fields_of_a_match_does_not_matter(flow: Flow) -> None:
    table, priority, match = _key(flow)
    fields = [encode(*each) for each in flow.key.match.fields]
    backwards = b"".join(sorted(fields, reverse=True))
    key = table, priority, match[:4] + backwards + match[4 + len(backwards) :]
    removed, dumped = _removed(key, flow.cookie), _stats(key, flow.cookie)
    assert reported.wire_key(removed) == reported.wire_key(dumped) == _key(flow)
    assert dumped.message == wire.add_message(OPTIONS, replace(flow, actions=()))


def test_a_flow_whose_loss_the_switch_would_not_report_is_not_as_it_should_be() -> None:
    for flow in FLOWS.values():
        assert not reported.same_content(_dumped(flow, flags=0), flow)
        assert not _dumped(flow, flags=0).message


oxm_fields = st.builds(
    lambda kind, value: struct.pack("!I", kind << 9 | len(value)) + value,
    st.integers(0, 2**23 - 1),
    st.binary(max_size=20),
)


@given(
    st.integers(0, 254),
    st.integers(0, 65535),
    st.one_of(
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1).map(lambda low: COOKIE_PREFIX | low),
        st.integers(0, 2**16 - 1).map(lambda low: FIRST_PREFIX | low),
    ),
    st.lists(oxm_fields, min_size=1, max_size=5),
)
def test_whatever_others_match_is_passed_over(
    table: int, priority: int, of_cookie: int, fields: list[bytes]
) -> None:
    """Among it fields that the library does not know."""
    body = b"".join(fields)
    match = struct.pack("!HH", 1, 4 + len(body)) + body + bytes(-(4 + len(body)) % 8)
    key = table, priority, match
    assert reported.our_key(OPTIONS, _stats(key, of_cookie)) is None
    assert reported.our_key(OPTIONS, _removed(key, of_cookie)) is None


def test_the_match_of_a_flow_without_our_cookie_is_not_even_looked_at() -> None:
    class Unreadable:
        table_id, priority, cookie = 0, 0, 0x77

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    assert reported.our_key(OPTIONS, Unreadable()) is None  # type: ignore[arg-type]


def test_a_flow_like_ours_elsewhere_is_not_ours() -> None:
    for key, flow in FLOWS.items():
        moved = FlowKey(key.table + 1 if key.table else 60, key.priority + 1, key.match)
        there = _stats(_key(replace(flow, key=moved)), flow.cookie)
        assert reported.our_key(OPTIONS, there) is None
    assert cookie()
