"""The difference of what a switch has and what it should have."""

from hypothesis import given
from hypothesis import strategies as st

from lab.flow_changes import changes_between, message_of, messages_of
from ovs_metadata.flows.diff import diff, hooks_first
from ovs_metadata.flows.flow_message import cookie_of, key_of, table_of
from ovs_metadata.flows.tables import cookie
from ovs_metadata.flows.values import Flow, FlowKey, Match, Output

keys = st.builds(
    FlowKey,
    st.sampled_from([0, 200, 204]),
    st.integers(1, 3),
    st.builds(lambda in_port: Match.of(in_port=in_port), st.integers(1, 4)),
)
flows = st.builds(
    Flow,
    keys,
    st.tuples(st.builds(Output, st.integers(1, 2))),
    st.builds(cookie, st.integers(0, 3)),
)
tables = st.lists(flows).map(lambda many: {flow.key: flow for flow in many})


@given(tables, tables)
def test_applying_a_diff_gives_what_was_desired(
    installed: dict[FlowKey, Flow], desired: dict[FlowKey, Flow]
) -> None:
    deleted, added = changes_between(installed, desired)
    result = {key: flow for key, flow in installed.items() if flow not in deleted}
    result |= {flow.key: flow for flow in added}
    assert result == desired


@given(tables)
def test_nothing_is_sent_when_nothing_differs(same: dict[FlowKey, Flow]) -> None:
    assert changes_between(same, dict(same)) == ([], [])


@given(tables, tables)
def test_hooks_go_first_and_come_last(
    installed: dict[FlowKey, Flow], desired: dict[FlowKey, Flow]
) -> None:
    deleted, added = changes_between(installed, desired)
    assert (tables := [flow.key.table for flow in deleted]) == sorted(tables)
    assert (tables := [flow.key.table for flow in added]) == sorted(tables, reverse=True)


@given(tables)
def test_of_what_others_deleted_hooks_come_first_after_what_all_ports_need(
    desired: dict[FlowKey, Flow],
) -> None:
    added = diff({}, messages_of(desired.values()), hooks_first).add
    order = [(cookie_of(each) != cookie(), table_of(each)) for each in added]
    assert order == sorted(order)


@given(flows)
def test_a_flow_of_which_the_cookie_alone_is_known_is_replaced_or_deleted(flow: Flow) -> None:
    message = message_of(flow)
    key = key_of(message)
    assert diff({key: 7}, {key: message}).add == (message,)
    assert diff({key: 7}, {}).delete == ((key, 7),)
    assert not diff({key: None}, {})
