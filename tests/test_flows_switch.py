"""What is known of the switch, and what it is sent: after any changes it has what it should."""

from collections.abc import Iterable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from lab.flow_changes import message_of
from ovs_metadata.flows.desired_messages import SHARED, Groups
from ovs_metadata.flows.diff import Changes
from ovs_metadata.flows.flow_message import (
    WireKey,
    by_key,
    cookie_of,
    key_of,
    meter_of,
)
from ovs_metadata.flows.meters import meter_number
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.switch import MANY, SwitchFlows
from ovs_metadata.flows.tables import cookie, place_of_cookie
from ovs_metadata.flows.values import ApplyMeter, Flow, FlowKey, Match, Output
from ovs_metadata.host.address import place_of
from ovs_metadata.host.config import FlowOptions

OPTIONS = FlowOptions()
MAC, OTHER_MAC = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02"


def flow(in_port: int, table: int = 0, out: int = 1) -> Flow:
    return Flow(FlowKey(table, 1, Match.of(in_port=in_port)), (Output(out),), cookie(in_port))


_KEPT: dict[bytes, bytes] = {}
"""Each group once: the same group is the same object, as in the flow controller."""


def groups_of(*flows: Flow) -> Groups:
    groups: dict[int, bytes] = {}
    for each in flows:
        place = place_of_cookie(each.cookie)
        groups[place] = groups.get(place, b"") + message_of(each)
    return groups


def meters_of(messages: Iterable[bytes]) -> set[int]:
    return {number for each in messages if (number := meter_of(each)) is not None}


def host(*ports: Port, metadata_ofport: int = 1, options: FlowOptions = OPTIONS) -> Groups:
    groups = groups_of(*pipeline(options, metadata_ofport, ports).values())
    return {place: _KEPT.setdefault(group, group) for place, group in groups.items()}


class Bridge:
    """A switch that takes what it is sent, and what is known of it."""

    def __init__(self) -> None:
        self.flows: dict[WireKey, bytes] = {}
        self.meters: set[int] = set()
        self.known = SwitchFlows()
        self._dump: list[bytes] | None = None

    def start_dump(self) -> None:
        """Ask for its meters and flows."""
        if self.known.dump_may_start():
            self.known.meters_there(set(self.meters))

    def dump_begins(self) -> None:
        """It answers: some of its flows arrive."""
        if self.known.dump_is_due():
            self._dump = list(self.flows.values())
            self._arrive(len(self._dump) // 2)

    def dump_ends(self) -> None:
        """The others arrive."""
        self.dump_begins()
        if self._dump is not None:
            self._arrive(len(self._dump))
            self.known.dump_ended()
            self._dump = None

    def _arrive(self, number: int) -> None:
        self.known.dump_begins()
        for _ in range(number):
            message = (self._dump or []).pop()
            if not self.known.dumped(cookie_of(message), message):
                self.known.dumped_other(key_of(message), cookie_of(message))

    def is_another(self) -> None:
        """It is replaced by another one, of which nothing is known."""
        self.flows, self.meters, self._dump = {}, set(), None
        self.known.connected()
        self.start_dump()

    def has(self, group: bytes) -> None:
        """An earlier controller left these flows; then all are asked for."""
        if not self.known.dump_is_due() and self._dump is None:
            self.flows |= by_key(group)
            self.meters |= meters_of(by_key(group).values())
            self.start_dump()

    def loses(self, message: bytes) -> None:
        """Another program deletes a flow."""
        del self.flows[key_of(message)]
        if not self.known.dump_is_due():
            self.known.removed(key_of(message), cookie_of(message))

    def send(self) -> Changes:
        """Send it what it needs."""
        changes = self.known.changes()
        self.meters |= set(changes.add_meters)
        for key, of_cookie in changes.delete:
            assert cookie_of(self.flows[key]) == of_cookie
            del self.flows[key]
        for message in changes.add:
            number = meter_of(message)
            assert number is None or number in self.meters
            self.flows[key_of(message)] = message
        self.meters -= set(changes.delete_meters)
        assert meters_of(self.flows.values()) <= self.meters
        return changes

    def want(self, groups: Groups) -> Changes:
        """Bring it to these flows."""
        self.known.desired = groups
        return self.send()


def known(*installed: Flow) -> Bridge:
    """A bridge that has these flows, as is known."""
    bridge = Bridge()
    bridge.known.desired = groups_of(*installed)
    bridge.has(b"".join(bridge.known.desired.values()))
    bridge.dump_ends()
    assert not bridge.send()
    return bridge


ports = st.builds(
    Port,
    st.integers(1, 5),
    st.sampled_from([MAC, OTHER_MAC]),
    st.booleans(),
    vlan=st.sampled_from([0, 0, 42]),
)
hosts = st.builds(
    lambda of_host, **options: host(*of_host, **options),
    st.lists(ports, max_size=4, unique_by=lambda port: (port.ofport, port.vlan)),
    metadata_ofport=st.sampled_from([1, 1, 1, 2]),
    options=st.sampled_from([OPTIONS, OPTIONS, OPTIONS, FlowOptions(table_base=100)]),
)


# There and back are frequent: a few hosts in any order, many times.
@given(st.lists(hosts, min_size=1, max_size=4), st.integers(min_value=0))
def test_after_any_changes_the_switch_has_what_one_look_at_the_host_gives(
    of_hosts: list[Groups], seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    bridge = Bridge()
    for _ in range(25):
        match random.randrange(10):
            case 0 | 1 | 2:
                bridge.known.desired = random.choice(of_hosts)
                bridge.known.undecided = random.sample(range(1, 6), random.choice([0, 0, 1, 2]))
            case 3 if bridge.flows:
                bridge.loses(random.choice(list(bridge.flows.values())))
            case 4:
                for message in list(bridge.flows.values()):
                    bridge.loses(message)
            case 5:
                bridge.has(random.choice([*random.choice(of_hosts).values(), b""]))
            case 6 if random.random() < 0.3:
                bridge.is_another()
            case 7:
                bridge.start_dump()
            case 8:
                bridge.dump_begins()
            case 9:
                bridge.dump_ends()
        if random.random() < 0.7:
            bridge.send()
    last = random.choice(of_hosts)
    bridge.known.desired, bridge.known.undecided = last, ()
    if not bridge.known.known or random.random() < 0.3:
        bridge.start_dump()
        bridge.dump_ends()
    bridge.send()
    wanted = by_key(b"".join(last.values()))
    assert bridge.flows == wanted
    assert bridge.meters == meters_of(wanted.values())
    assert not bridge.send()


def test_a_port_that_stays_as_it_is_costs_no_look_at_its_flows() -> None:
    class Counted(bytes):
        looks = 0

        def __len__(self) -> int:
            Counted.looks += 1
            return super().__len__()

    many = [Port(number, MAC) for number in range(2, 50)]
    counted = {place: Counted(group) for place, group in host(*many).items()}
    bridge = known()
    bridge.want(counted)
    Counted.looks = 0
    flows_of_one = by_key(bytes(counted[9]))
    changes = bridge.want({place: group for place, group in counted.items() if place != 9})
    assert len(changes.delete) == len(flows_of_one)
    assert Counted.looks <= 2 * len(flows_of_one)


def test_flows_of_a_trunk_stay_while_their_parent_is_undecided() -> None:
    """Its record names the sub-ports: until it has been read, any may be there."""
    bridge = known()
    others = [Port(3, MAC), Port(3, MAC, vlan=42)]

    def places() -> set[int]:
        return {place_of_cookie(cookie_of(each)) for each in bridge.flows.values()}

    bridge.want(host(Port(2, MAC), Port(2, MAC, vlan=42), *others))
    bridge.known.undecided = {2}
    bridge.want(host())
    assert places() == {SHARED, 2, place_of(2, 42)}
    assert bridge.meters == meters_of(bridge.flows.values())
    bridge.known.undecided = {place_of(2, 42)}
    bridge.want(host(Port(2, MAC)))
    assert place_of(2, 42) in places()
    bridge.known.undecided = ()
    bridge.want(host(Port(2, MAC)))
    assert places() == {SHARED, 2}


def test_a_meter_stays_while_any_port_behind_its_interface_uses_it() -> None:
    bridge = known()
    parent, sub_port = Port(2, MAC), Port(2, MAC, vlan=42)
    for ports_now in ([parent, sub_port], [parent], [sub_port], []):
        bridge.want(host(*ports_now))
        assert bridge.meters == meters_of(bridge.flows.values())


def test_nothing_is_sent_before_the_dump_has_ended() -> None:
    bridge = Bridge()
    assert not bridge.want(groups_of(flow(1)))
    bridge.start_dump()
    assert not bridge.send()
    bridge.dump_ends()
    assert bridge.send().add == (message_of(flow(1)),)


def test_nothing_is_deleted_before_it_is_known_what_is_desired() -> None:
    bridge = Bridge()
    bridge.has(message_of(flow(1)))
    bridge.dump_ends()
    assert not bridge.send()


def test_a_flow_with_other_content_is_replaced() -> None:
    bridge = Bridge()
    bridge.known.desired = groups_of(flow(1))
    bridge.has(message_of(flow(1, out=2)))
    bridge.dump_ends()
    assert bridge.send().add == (message_of(flow(1)),)
    assert not bridge.send()


def test_a_flow_that_is_not_desired_is_deleted() -> None:
    bridge = known(flow(1))
    key = key_of(message_of(flow(1)))
    assert bridge.want({}).delete == ((key, cookie(1)),)
    assert not bridge.send()


def test_a_deleted_flow_comes_back() -> None:
    bridge = known(flow(1))
    bridge.loses(message_of(flow(1)))
    assert bridge.send().add == (message_of(flow(1)),)
    assert not bridge.send()


def test_what_others_deleted_comes_back_hooks_first_and_new_flows_hooks_last() -> None:
    bridge = known()
    assert [key[0] for key in map(key_of, bridge.want(host(Port(2, MAC))).add)][-1] == 0
    for message in list(bridge.flows.values()):
        bridge.loses(message)
    of_port = [key_of(each)[0] for each in bridge.send().add if cookie_of(each) != cookie()]
    assert of_port == sorted(of_port)


def test_what_went_is_not_kept() -> None:
    bridge = known()
    for number in range(1, 100):
        bridge.known.removed(key_of(message_of(flow(number))), cookie(number))
        assert not bridge.send()
    assert not bridge.known._there
    assert not bridge.known._removed


def test_a_flow_deleted_during_a_dump_comes_back() -> None:
    bridge = known(flow(1))
    bridge.start_dump()
    bridge.dump_begins()
    bridge.loses(message_of(flow(1)))
    bridge.dump_ends()
    assert bridge.send().add == (message_of(flow(1)),)


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
    wanted = [flow(number) for number in range(1, MANY + 2)]
    bridge = known(*wanted)
    # Flows of ports that have gone are no loss.
    for number in range(1, 2 * MANY):
        bridge.known.removed(key_of(message_of(flow(number, table=200))), cookie(number))
    assert not bridge.known.dump_is_needed()
    for each in wanted:
        assert not bridge.known.dump_is_needed()
        bridge.loses(message_of(each))
    assert bridge.known.dump_is_needed()
    bridge.start_dump()
    assert not bridge.known.dump_is_needed()


METERED = Flow(flow(1).key, (ApplyMeter(meter_number(1)), Output(1)), cookie(1))


def test_a_dump_is_needed_when_a_flow_with_a_meter_was_removed() -> None:
    bridge = known(METERED)
    bridge.loses(message_of(METERED))
    assert bridge.known.dump_is_needed()
    bridge.start_dump()
    assert not bridge.known.dump_is_needed()


def test_a_meter_stays_as_long_as_its_flow_and_while_its_port_is_undecided() -> None:
    bridge = known(METERED)
    bridge.meters.add(meter_number(9))
    bridge.start_dump()
    bridge.dump_ends()
    assert bridge.send().delete_meters == (meter_number(9),)
    assert not bridge.send()
    bridge.known.undecided = {1}
    assert not bridge.want({})
    bridge.known.undecided = ()
    changes = bridge.send()
    assert changes.delete == ((key_of(message_of(METERED)), cookie(1)),)
    assert changes.delete_meters == (meter_number(1),)


def test_flows_of_a_port_not_yet_decided_on_are_left_alone() -> None:
    bridge = known(flow(1), flow(2))
    bridge.known.undecided = {1}
    assert [each.cookie for each in bridge.want({}).delete] == [cookie(2)]
    assert not bridge.send()
    bridge.known.undecided = ()
    assert [each.cookie for each in bridge.send().delete] == [cookie(1)]


def test_one_dump_at_a_time() -> None:
    switch = SwitchFlows()
    assert switch.dump_may_start()
    assert not switch.dump_may_start()
    switch.dump_ended()
    assert switch.dump_may_start()


def test_only_the_flows_that_differ_are_sent() -> None:
    bridge = known()
    bridge.want(host(Port(2, MAC), Port(3, MAC)))
    changes = bridge.want(host(Port(2, OTHER_MAC), Port(3, MAC)))
    assert (len(changes.add), changes.delete) == (2, ())
    again = {place: bytes(bytearray(group)) for place, group in host(Port(2, OTHER_MAC)).items()}
    assert not bridge.want(again | {3: host(Port(3, MAC))[3]})


def test_what_another_program_put_back_itself_is_not_sent() -> None:
    bridge = known(flow(1))
    bridge.loses(message_of(flow(1)))
    bridge.has(message_of(flow(1)))
    bridge.dump_ends()
    assert not bridge.send()


def test_a_new_connection_knows_nothing_of_the_one_before() -> None:
    bridge = known(flow(1))
    bridge.is_another()
    assert not bridge.known.known
    assert not bridge.send()
    bridge.dump_ends()
    assert bridge.send().add == (message_of(flow(1)),)
