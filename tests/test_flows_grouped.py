"""Flows kept from one state of a host to the next are those that one look at it gives."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.flows.grouped import GroupedFlows, groups_of
from ovs_metadata.flows.meters import meters_used
from ovs_metadata.flows.pipeline import Pipeline, Port, pipeline
from ovs_metadata.flows.switch import SwitchFlows
from ovs_metadata.flows.tables import place_of_cookie
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.address import place_of
from ovs_metadata.host.config import FlowOptions

OPTIONS = FlowOptions()

ports = st.builds(
    Port,
    st.integers(1, 6),
    st.sampled_from(["fa:16:3e:00:00:01", "fa:16:3e:00:00:02"]),
    st.booleans(),
    vlan=st.sampled_from([0, 0, 42]),
)
hosts = st.tuples(
    st.sampled_from([None, 1, 2]),
    st.lists(ports, max_size=6, unique_by=lambda port: (port.ofport, port.vlan)),
    st.sampled_from([OPTIONS, FlowOptions(table_base=100)]),
)


class Bridge:
    """A switch that takes what it is sent."""

    def __init__(self) -> None:
        self.flows: dict[FlowKey, Flow] = {}
        self.known = SwitchFlows()
        self.known.connected()
        self.known.dump_may_start()
        self.known.dump_ended()

    def want(self, flows: GroupedFlows) -> int:
        """Bring it to these flows; returns how many messages that takes."""
        self.known.desired = flows
        changes = self.known.changes()
        for each in changes.delete:
            del self.flows[each.key]
        for flow in changes.add:
            self.flows[flow.key] = flow
        return len(changes.delete) + len(changes.add)


@given(st.lists(hosts, max_size=8), st.lists(hosts, min_size=1, max_size=3))
def test_any_sequence_of_hosts_leads_to_what_the_last_one_gives(
    way: list[tuple[int | None, list[Port], FlowOptions]],
    there_and_back: list[tuple[int | None, list[Port], FlowOptions]],
) -> None:
    bridge, kept = Bridge(), Pipeline()
    for metadata_ofport, of_host, options in [*way, *there_and_back, *reversed(there_and_back)]:
        flows = kept.flows(options, metadata_ofport, of_host)
        computed = pipeline(options, metadata_ofport, of_host)
        assert dict(flows) == computed
        assert len(flows) == len(computed)
        bridge.want(flows)
        assert bridge.flows == computed == bridge.known.desired
        assert +bridge.known._meter_users == Counter(
            number for group in groups_of(flows).values() for number in meters_used(group.values())
        )
        assert bridge.want(kept.flows(options, metadata_ofport, of_host)) == 0


def test_a_port_that_stays_as_it_is_costs_no_look_at_its_flows() -> None:
    class Counted(dict[FlowKey, Flow]):
        looks = 0

        def __iter__(self):  # type: ignore[no-untyped-def] # dict's own
            Counted.looks += 1
            return super().__iter__()

    kept = Pipeline()
    many = [Port(number, "fa:16:3e:00:00:01") for number in range(2, 50)]
    groups = groups_of(kept.flows(OPTIONS, 1, many))
    counted = {name: Counted(group) for name, group in groups.items()}
    bridge = Bridge()
    bridge.want(GroupedFlows(counted))
    Counted.looks = 0
    one_less = {name: group for name, group in counted.items() if name != many[7]}
    assert bridge.want(GroupedFlows(one_less)) == len(counted[many[7]])
    assert Counted.looks <= 2


def test_flows_without_groups_are_one_group() -> None:
    flows = pipeline(OPTIONS, 1, [Port(2, "fa:16:3e:00:00:01")])
    assert groups_of(flows) == {None: flows}
    assert not groups_of(GroupedFlows({}))


def test_flows_of_a_trunk_stay_while_their_parent_is_undecided() -> None:
    """Its record names the sub-ports: until it has been read, any may be there."""
    bridge, kept, mac = Bridge(), Pipeline(), "fa:16:3e:00:00:01"
    others = [Port(3, mac), Port(3, mac, vlan=42)]
    everything = kept.flows(OPTIONS, 1, [Port(2, mac), Port(2, mac, vlan=42), *others])
    bridge.want(everything)
    bridge.known.undecided = {2}
    bridge.want(kept.flows(OPTIONS, 1, []))
    assert {place_of_cookie(flow.cookie) for flow in bridge.flows.values()} == {
        *(0, 2),
        place_of(2, 42),
    }
    assert bridge.known._meters == meters_used(bridge.flows.values())
    bridge.known.undecided = {place_of(2, 42)}
    bridge.want(kept.flows(OPTIONS, 1, [Port(2, mac)]))
    assert place_of(2, 42) in {place_of_cookie(flow.cookie) for flow in bridge.flows.values()}
    bridge.known.undecided = ()
    bridge.want(kept.flows(OPTIONS, 1, [Port(2, mac)]))
    assert {place_of_cookie(flow.cookie) for flow in bridge.flows.values()} == {0, 2}


def test_a_meter_stays_while_any_port_behind_its_interface_uses_it() -> None:
    bridge, kept, mac = Bridge(), Pipeline(), "fa:16:3e:00:00:01"
    parent, sub_port = Port(2, mac), Port(2, mac, vlan=42)
    for ports_now in ([parent, sub_port], [parent], [sub_port], []):
        bridge.want(kept.flows(OPTIONS, 1, ports_now))
        assert bridge.known._meters == meters_used(bridge.flows.values())
