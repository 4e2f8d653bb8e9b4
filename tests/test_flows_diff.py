"""The diff of flows, and what is known of the switch."""

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.flows.diff import diff
from ovs_metadata.flows.meters import meter_number
from ovs_metadata.flows.switch import MANY, SwitchFlows
from ovs_metadata.flows.tables import cookie
from ovs_metadata.flows.values import ApplyMeter, Flow, FlowKey, Match, Output

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
    st.builds(cookie, st.integers(1, 3)),
)
tables = st.lists(flows).map(lambda many: {flow.key: flow for flow in many})


def _flow(in_port: int, table: int = 0, out: int = 1) -> Flow:
    return Flow(FlowKey(table, 1, Match.of(in_port=in_port)), (Output(out),), cookie(in_port))


@given(tables, tables)
def test_applying_a_diff_gives_what_was_desired(
    installed: dict[FlowKey, Flow], desired: dict[FlowKey, Flow]
) -> None:
    changes = diff(installed, desired)
    result = {key: flow for key, flow in installed.items() if key not in dict(changes.delete)}
    result |= {flow.key: flow for flow in changes.add}
    assert result == desired


@given(tables)
def test_nothing_is_sent_when_nothing_differs(same: dict[FlowKey, Flow]) -> None:
    assert not diff(same, dict(same))


@given(tables, tables)
def test_hooks_go_first_and_come_last(
    installed: dict[FlowKey, Flow], desired: dict[FlowKey, Flow]
) -> None:
    changes = diff(installed, desired)
    assert (deleted := [each.key.table for each in changes.delete]) == sorted(deleted)
    added = [flow.key.table for flow in changes.add]
    assert added == sorted(added, reverse=True)


def _connected(desired: Flow | None, *installed: Flow) -> SwitchFlows:
    switch = SwitchFlows()
    switch.desired = {desired.key: desired} if desired else {}
    assert switch.dump_may_start()
    for flow in installed:
        switch.dumped(flow.key, flow.cookie, as_desired=flow == desired)
    switch.dump_ended()
    return switch


def test_nothing_is_sent_before_the_dump_has_ended() -> None:
    switch = SwitchFlows()
    switch.desired = {_flow(1).key: _flow(1)}
    assert not switch.changes()
    assert switch.dump_may_start()
    assert not switch.changes()
    switch.dump_ended()
    assert switch.changes().add == (_flow(1),)


def test_nothing_is_deleted_before_it_is_known_what_is_desired() -> None:
    switch = SwitchFlows()
    assert switch.dump_may_start()
    switch.dumped(_flow(1).key, _flow(1).cookie, as_desired=False)
    switch.dump_ended()
    assert not switch.changes()


def test_a_flow_with_other_content_is_replaced() -> None:
    switch = _connected(_flow(1), _flow(1, out=2))
    assert switch.changes().add == (_flow(1),)
    assert not switch.changes()


def test_a_flow_that_is_not_desired_is_deleted() -> None:
    switch = _connected(None, _flow(1))
    assert switch.changes().delete == ((_flow(1).key, cookie(1)),)
    assert not switch.changes()


def test_a_deleted_flow_comes_back() -> None:
    switch = _connected(_flow(1), _flow(1))
    assert not switch.changes()
    switch.removed(_flow(1).key)
    assert switch.changes().add == (_flow(1),)


def test_what_went_is_not_kept_for_the_next_dump() -> None:
    switch = _connected(None)
    for number in range(1, 100):
        switch.removed(_flow(number).key)
        assert not switch.changes()
    assert switch._removed == set()
    assert switch.dump_may_start()
    switch.removed(_flow(1).key)
    switch.dump_ended()
    assert switch._removed == set()


def test_a_flow_deleted_during_a_dump_comes_back() -> None:
    switch = SwitchFlows()
    switch.desired = {_flow(1).key: _flow(1)}
    assert switch.dump_may_start()
    switch.removed(_flow(1).key)
    switch.dumped(_flow(1).key, _flow(1).cookie, as_desired=True)
    switch.dump_ended()
    assert switch.changes().add == (_flow(1),)


def test_before_a_dump_has_begun_removals_can_be_ignored() -> None:
    switch = SwitchFlows()
    assert not switch.dump_is_due()
    assert switch.dump_may_start()
    assert switch.dump_is_due()
    switch.dump_begins()
    assert not switch.dump_is_due()
    switch.dump_ended()
    assert not switch.dump_is_due()


def test_a_dump_is_wanted_when_many_flows_that_are_desired_were_removed() -> None:
    wanted = [_flow(number) for number in range(1, MANY + 2)]
    switch = SwitchFlows()
    switch.desired = {flow.key: flow for flow in wanted}
    # Flows of ports that have gone are no loss.
    for number in range(1, 2 * MANY):
        switch.removed(_flow(number, table=200).key)
    assert not switch.dump_is_needed()
    for flow in wanted:
        assert not switch.dump_is_needed()
        switch.removed(flow.key)
    assert switch.dump_is_needed()
    assert switch.dump_may_start()
    assert not switch.dump_is_needed()


METERED = Flow(_flow(1).key, (ApplyMeter(meter_number(1)), Output(1)), cookie(1))


def test_a_dump_is_needed_when_a_flow_with_a_meter_was_removed() -> None:
    switch = _connected(METERED, METERED)
    switch.removed(METERED.key)
    assert switch.dump_is_needed()
    assert switch.dump_may_start()
    assert not switch.dump_is_needed()


def test_a_meter_stays_as_long_as_its_flow_and_while_its_port_is_undecided() -> None:
    switch = _connected(METERED)
    switch.meters_there([meter_number(9)])
    assert switch.changes().delete_meters == (meter_number(9),)
    assert not switch.changes()
    switch.undecided = {1}
    switch.desired = {}
    assert not switch.changes()
    switch.undecided = ()
    changes = switch.changes()
    assert changes.delete == ((METERED.key, cookie(1)),)
    assert changes.delete_meters == (meter_number(1),)


def test_the_removal_of_what_is_no_longer_desired_is_no_news() -> None:
    switch = _connected(None, _flow(1))
    switch.changes()
    switch.removed(_flow(1).key)
    assert not switch.changes()


def test_flows_of_a_port_not_yet_decided_on_are_left_alone() -> None:
    switch = _connected(None, _flow(1), _flow(2))
    switch.undecided = {1}
    assert switch.changes().delete == ((_flow(2).key, cookie(2)),)
    assert not switch.changes()
    switch.undecided = ()
    assert switch.changes().delete == ((_flow(1).key, cookie(1)),)


def test_one_dump_at_a_time() -> None:
    switch = SwitchFlows()
    assert switch.dump_may_start()
    assert not switch.dump_may_start()
    switch.dump_ended()
    assert switch.dump_may_start()


def test_a_new_connection_knows_nothing_of_the_one_before() -> None:
    switch = _connected(_flow(1), _flow(1))
    assert switch.dump_may_start()
    switch.connected()
    assert not switch.known
    assert not switch.changes()
    assert switch.dump_may_start()
    switch.dump_ended()
    assert switch.changes().add == (_flow(1),)
