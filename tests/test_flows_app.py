"""What the flow controller does when it hears of something, on a host that is played."""

import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from lab.flow_changes import message_of
from ovs_metadata.flows import app, meter_wire, openflow, reported, wire
from ovs_metadata.flows.app import FIRST_AFTER_ERROR, MetadataFlows
from ovs_metadata.flows.controller_report import ControllerReport, parse_report
from ovs_metadata.flows.flow_message import cookie_of, key_of, messages_in, meter_of, table_of
from ovs_metadata.flows.meters import (
    BURST_GIVEN,
    DROP,
    PACKETS,
    Band,
    Meter,
    meter_number,
    meters_used,
    our_meter,
    question_meter_number,
)
from ovs_metadata.flows.packets import unsolicited_advertisement
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.rivalry import FIRST
from ovs_metadata.flows.switch import MANY
from ovs_metadata.flows.tables import cookie
from ovs_metadata.flows.values import Flow, FlowKey, Match
from ovs_metadata.host import config
from ovs_metadata.host.address import METADATA_PORT_MAC
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.host.option_policy import OPTION_KEYS
from ovs_metadata.host.ovsdb import Bridge, MetadataPort, OvsdbRefused, OvsdbUnreachable
from ovs_metadata.host.port_watcher import HostState
from ovs_metadata.metadata_options import DEFAULT_POLICY, MetadataOptions, OptionPolicy
from ovs_metadata.store.configuration import ENABLED, ConfigSource
from ovs_metadata.store.interface import StoreError
from ovs_metadata.store.record import PortRecord

OVS = openflow.ofproto
BRIDGE = Bridge(
    "br-int",
    row=uuid4(),
    datapath_id=f"{0xB1:016x}",
    metadata_port=MetadataPort(1, ours=True, isolated=True),
)


def served(ofport: int) -> ServedPort:
    record = PortRecord(
        port_id=str(uuid4()),
        project_id="project",
        device_id=str(uuid4()),
        device_owner="compute:nova",
        mac_address=f"fa:16:3e:00:00:{ofport:02x}",
        fixed_ips=(f"10.0.0.{ofport}",),
        network_id=str(uuid4()),
        revision_number=1,
    )
    return ServedPort(ofport, f"tap{ofport}", record)


class Ended(Exception):
    """A loop that never ends is left."""


class Event:
    """The library's event; waiting for one that is not set is the end of the test's loop."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True

    def clear(self) -> None:
        self.is_set = False

    def wait(self) -> None:
        if not self.is_set:
            raise Ended


class Hub:
    """The library's threads and clock."""

    Event = Event

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.naps = 0
        self.now = 100.0
        self.slept: list[float] = []

    def spawn_after(self, delay: float, call: Callable[[], None]) -> None:
        self.later.append((delay, call))

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) > self.naps:
            raise Ended

    def run_later(self) -> list[float]:
        """Have the time come for all that is due later; how long each was to wait."""
        due, self.later = self.later, []
        for _, call in due:
            call()
        return [delay for delay, _ in due]


class Switch:
    """A connected switch, which notes what it is sent."""

    def __init__(self, address: Any, number: int = 0xB1) -> None:
        self.address = address
        self.id = number
        self.sent: list[bytes] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def take(self) -> list[bytes]:
        sent, self.sent = self.sent, []
        return sent

    def dumps_asked_for(self) -> int:
        """A dump begins with the meters."""
        return self.take().count(meter_wire.meters_request())


def keys(sent: Iterable[bytes], command: int) -> list[tuple[int, int]]:
    """Table and cookie of the flows that messages add, or delete."""
    mods = (each for each in sent if each[1] == wire.FLOW_MOD)
    found = (struct.unpack_from("!QQBB", each, wire.HEADER.size) for each in mods)
    return sorted((table, cookie) for cookie, _, table, each in found if each == command)


class Ovsdb:
    """Takes what the bridge is prepared with, or refuses it."""

    def __init__(self) -> None:
        self.refuses = False
        self.transactions = 0

    def transact(self, _write: object) -> None:
        self.transactions += 1
        if self.refuses:
            raise OvsdbRefused("read only")


class Watcher:
    """The host as the test has it."""

    def __init__(self) -> None:
        self.ovsdb = Ovsdb()
        self.policy: OptionPolicy | None = DEFAULT_POLICY
        self.host = HostState(BRIDGE, HostPorts())

    def state(self) -> HostState:
        return self.host

    def serves(self, *ports: ServedPort) -> None:
        self.host = HostState(BRIDGE, HostPorts(served={each.ofport: each for each in ports}))


def _multipart(body: bytes, *, more: bool = False) -> bytes:
    return wire.message(wire.MULTIPART_REPLY, struct.pack("!HH4x", 0, more) + body)


def _meter_entry(meter: Meter) -> bytes:
    bands = (struct.pack("!HHII4x", each.kind, 16, each.rate, each.burst) for each in meter.bands)
    body = b"".join(bands)
    return struct.pack("!HHI", 8 + len(body), meter.flags, meter.number) + body


def _arrived(switch: "Switch", message: bytes) -> SimpleNamespace:
    return SimpleNamespace(msg=SimpleNamespace(datapath=switch, buf=message))


class Played:
    """The application, in the surroundings above."""

    def __init__(self, hub: Hub, socket_path: str) -> None:
        self.hub = hub
        self.watcher = Watcher()
        self.app = MetadataFlows()
        self.socket_path = socket_path
        self.app._watcher = cast("Any", self.watcher)
        self.watcher.serves(served(2))
        self.has_meters: Sequence[Meter] | None = None
        self.highest_meter = 1 << 18

    def connect(self, address: Any = None, number: int = 0xB1) -> Switch:
        switch = Switch(address or self.socket_path, number)
        self.changes(switch, openflow.handler.MAIN_DISPATCHER)
        return switch

    def changes(self, switch: Switch, state: str) -> None:
        self.app._state_changed(SimpleNamespace(datapath=switch, state=state))

    def follows(self, values: dict[str, Any] | None) -> None:
        """Let it work with these values of the deployment; None: none are known."""
        sources = None if values is None else [ConfigSource("template default", values)]
        self.app._deployment = cast("Any", SimpleNamespace(sources=lambda: sources))
        self.app._wake.set()
        self.work()

    def work(self) -> None:
        """Let it work off what it was woken for."""
        with pytest.raises(Ended):
            self.app._work()

    def meters(self, switch: Switch) -> None:
        """Its meters arrive, in two parts: `has_meters`, or those that it should have."""
        meters = self.has_meters
        if meters is None:
            meters = [our_meter(each) for each in sorted(meters_used(self.desired().values()))]
        features = struct.pack("!III4x", self.highest_meter, 1 << DROP, PACKETS | BURST_GIVEN)
        reply = _multipart(features)
        self.app._meter_features_arrived(_arrived(switch, reply))
        for more, part in ((True, meters[:1]), (False, meters[1:])):
            reply = _multipart(b"".join(map(_meter_entry, part)), more=more)
            self.app._meters_arrived(_arrived(switch, reply))

    def dump(self, switch: Switch, *stats: reported.DumpedStats, more: bool = False) -> None:
        """Its flows arrive, after its meters."""
        if id(switch) == id(self.app._switch) and self.app._flows.dump_is_due():
            self.meters(switch)
            self.work()
            assert switch.sent.pop() == wire.dump_message()
        flags = OVS.OFPMPF_REPLY_MORE if more else 0
        message = SimpleNamespace(datapath=switch, body=list(stats), flags=flags)
        self.app._dump_arrived(SimpleNamespace(msg=message))

    def removed(self, switch: Switch, *flows: Flow, reason: int = OVS.OFPRR_DELETE) -> None:
        """These flows were removed; the reports of it arrive together."""
        messages = []
        for flow in flows:
            table, priority, match = key_of(message_of(flow))
            fixed = struct.pack("!QHBBIIHHQQ", flow.cookie, priority, reason, table, *[0] * 6)
            messages.append(bytes(wire.HEADER.size) + fixed + match)
        message = SimpleNamespace(datapath=switch, messages=messages)
        self.app._flow_removed(SimpleNamespace(msg=message))

    def refuses(self, switch: Switch, message_type: int = wire.FLOW_MOD) -> None:
        refused = bytes([wire.VERSION, message_type])
        message = SimpleNamespace(datapath=switch, type=5, code=1, data=refused)
        self.app._error_arrived(SimpleNamespace(msg=message))

    def carries_out(self, switch: Switch) -> None:
        """The switch has carried out what it was sent, and answers the barrier at the end."""
        assert switch.take()[-1] == wire.barrier_message()
        message = SimpleNamespace(datapath=switch)
        self.app._barrier_passed(SimpleNamespace(msg=message))

    def desired(self) -> dict[FlowKey, Flow]:
        ports = [
            Port(each.ofport, each.record.mac_address)
            for each in self.watcher.host.host_ports.served.values()
        ]
        return dict(pipeline(self.app._config.flows, 1, ports))

    def in_order(self) -> Switch:
        """The switch has what it should."""
        switch = self.connect()
        self.app._wake.set()
        self.work()
        self.dump(switch)
        self.work()
        switch.take()
        return switch


def dumped(flow: Flow, **changes: int) -> reported.DumpedStats:
    """A flow as the switch has it in a dump."""
    stats = reported.DumpedStats(bytes(64))
    match, actions = key_of(message_of(flow))[2], wire.instructions(flow.actions)
    stats._entry, stats._match_at, stats._instructions_at = match + actions, 0, len(match)
    stats.table_id, stats.priority = flow.key.table, flow.key.priority
    stats.cookie, stats.flags = flow.cookie, OVS.OFPFF_SEND_FLOW_REM
    for name, value in changes.items():
        setattr(stats, name, value)
    return stats


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Sets options of the file: group, name, value."""
    config.register(openflow.host_conf)

    def override(group: str, name: str, value: object) -> None:
        openflow.host_conf.set_override(name, value, group=group)

    override("agent", "state_dir", str(tmp_path / "state"))
    override("ovs", "rundir", str(tmp_path))
    yield override
    openflow.host_conf.clear_override("state_dir", group="agent")
    openflow.host_conf.clear_override("rundir", group="ovs")
    openflow.host_conf.clear_override("controller", group="flows")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(app, "hub", hub)
    monkeypatch.setattr(app, "time", SimpleNamespace(monotonic=lambda: hub.now))
    monkeypatch.setattr(app, "_vital", lambda part: part())
    monkeypatch.setattr(openflow, "send_all", lambda switch, messages: switch.sent.extend(messages))
    return hub


@pytest.fixture
def played(configured: object, hub: Hub, tmp_path: Path) -> Played:
    assert configured
    return Played(hub, str(tmp_path / "br-int.mgmt"))


# Which switch.


def test_a_connection_is_asked_for_removals_and_for_all_meters_and_flows(played: Played) -> None:
    switch = played.connect()
    assert switch.take() == [
        wire.removals_wanted_message(),
        meter_wire.features_request(),
        meter_wire.meters_request(),
    ]
    played.meters(switch)
    played.work()
    assert switch.take() == [wire.dump_message()]


def test_the_management_socket_comes_before_who_says_to_be_our_bridge(played: Played) -> None:
    played.app._wake.set()
    played.work()
    by_itself = played.connect(("127.0.0.1", 6633))
    assert by_itself.dumps_asked_for() == 1
    managed = played.connect()
    assert managed.dumps_asked_for() == 1
    again = played.connect(("127.0.0.1", 6634))
    assert again.sent == []
    played.changes(managed, openflow.handler.DEAD_DISPATCHER)
    assert by_itself.dumps_asked_for() + again.dumps_asked_for() == 1


def test_another_bridge_that_connects_is_left_alone(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    played.app._wake.set()
    played.work()
    stranger = played.connect(("127.0.0.1", 6633), 0xB2)
    played.work()
    assert stranger.sent == []
    assert "00000000000000b2" in caplog.text


def test_before_the_bridge_is_known_only_the_management_socket_is_accepted(
    played: Played,
) -> None:
    assert played.connect(("127.0.0.1", 6633)).sent == []
    assert played.connect().sent


def test_a_lost_connection_is_logged_and_nothing_is_sent(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    switch = played.in_order()
    played.changes(switch, openflow.handler.DEAD_DISPATCHER)
    played.watcher.serves(served(2), served(3))
    played.app._wake.set()
    played.work()
    assert switch.sent == []
    assert "connection to bridge br-int lost" in caplog.text


# What it has and what it should have.


def test_nothing_is_sent_before_the_dump_is_complete(played: Played) -> None:
    switch = played.connect()
    switch.take()
    played.app._wake.set()
    played.work()
    played.dump(switch, more=True)
    played.work()
    assert switch.sent == []
    played.dump(switch)
    played.work()
    expected = sorted((flow.key.table, flow.cookie) for flow in played.desired().values())
    assert keys(switch.take(), OVS.OFPFC_ADD) == expected


def test_what_is_there_as_it_should_be_is_not_sent_again(played: Played) -> None:
    switch = played.connect()
    played.app._wake.set()
    played.work()
    switch.take()
    flows = list(played.desired().values())
    played.dump(switch, *map(dumped, flows[:5]), more=True)
    played.dump(switch, *map(dumped, flows[5:]))
    played.work()
    assert switch.sent == []


def test_what_the_switch_has_learned_for_an_earlier_release_goes(played: Played) -> None:
    switch = played.connect()
    played.app._wake.set()
    played.work()
    switch.take()
    match = Match.of(eth_type=0x800, ip_proto=6, ipv4_dst="169.254.0.2", tcp_dst=4711)
    learned = Flow(FlowKey(203, 100, match), (), cookie(2))
    assert reported.our_key(played.app._config.flows, dumped(learned)) == learned.key
    played.dump(switch, dumped(learned), *map(dumped, played.desired().values()))
    played.work()
    assert keys(switch.take(), OVS.OFPFC_DELETE_STRICT) == [(203, cookie(2))]


def test_what_would_not_be_reported_or_does_something_else_is_sent_again(played: Played) -> None:
    switch = played.connect()
    played.app._wake.set()
    played.work()
    switch.take()
    first, *others = sorted(played.desired().values(), key=lambda flow: not flow.actions)
    second = others.pop(0)
    changed = replace(second, actions=())
    played.dump(switch, dumped(first, flags=0), dumped(changed), *map(dumped, others))
    played.work()
    expected = sorted([(first.key.table, first.cookie), (second.key.table, second.cookie)])
    assert keys(switch.take(), OVS.OFPFC_ADD) == expected


def test_flows_of_a_port_that_is_gone_are_deleted(played: Played) -> None:
    played.watcher.serves(served(2), served(3))
    switch = played.in_order()
    both = played.desired()
    played.watcher.serves(played.watcher.host.host_ports.served[2])
    played.app._wake.set()
    played.work()
    gone = [flow for key, flow in both.items() if key not in played.desired()]
    assert gone
    assert keys(switch.take(), OVS.OFPFC_DELETE_STRICT) == sorted(
        (flow.key.table, flow.cookie) for flow in gone
    )


def test_flows_of_a_port_of_which_nothing_is_known_yet_stay(played: Played) -> None:
    played.watcher.serves(served(2), served(3))
    switch = played.in_order()
    host_ports = HostPorts(
        served={2: played.watcher.host.host_ports.served[2]},
        undecided=frozenset({3}),
    )
    played.watcher.host = HostState(BRIDGE, host_ports)
    played.app._wake.set()
    played.work()
    assert switch.take() == []


def test_a_guest_with_new_hooks_gets_the_services_mac(played: Played) -> None:
    switch = played.connect()
    played.app._wake.set()
    played.work()
    played.dump(switch)
    played.work()
    frame = unsolicited_advertisement(METADATA_PORT_MAC)
    frames = [each for each in switch.take() if each[1] == wire.PACKET_OUT]
    assert frames == [wire.frame_out_message(2, frame)]


def test_a_dump_of_another_connection_is_not_read(played: Played) -> None:
    switch = played.connect()
    played.app._wake.set()
    played.work()
    switch.take()
    played.dump(Switch("elsewhere"))
    played.work()
    assert switch.sent == []


def test_the_switch_is_audited_from_time_to_time_but_once_at_a_time(played: Played) -> None:
    switch = played.in_order()
    played.hub.naps = 2
    with pytest.raises(Ended):
        played.app._audit()
    assert switch.dumps_asked_for() == 1
    assert set(played.hub.slept) == {played.app._config.audit_interval}


# Meters.


_METER_MOD = 29
_WORDS = {
    (_METER_MOD, 0): "add meter",
    (_METER_MOD, 2): "delete meter",
    (wire.FLOW_MOD, wire.ADD): "add flow",
    (wire.FLOW_MOD, wire.DELETE_STRICT): "delete flow",
}


def commands(sent: Iterable[bytes]) -> list[str]:
    """What messages do, in their order, without repetition."""
    found: list[str] = []
    for each in sent:
        if each[1] not in {_METER_MOD, wire.FLOW_MOD}:
            continue
        # The command of a FLOW_MOD follows two cookies and the table.
        at = wire.HEADER.size + (1 if each[1] == _METER_MOD else 17)
        word = _WORDS.get((each[1], each[at]))
        if word and found[-1:] != [word]:
            found.append(word)
    return found


def meters_in(sent: Iterable[bytes]) -> list[int]:
    """The numbers of the meters that messages add or delete."""
    mods = (each for each in sent if each[1] == _METER_MOD)
    return [struct.unpack_from("!4xI", each, wire.HEADER.size)[0] for each in mods]


def meters_wanted(played: Played) -> set[int | None]:
    """The meters that the desired flows need."""
    groups = (played.app._flows.desired or {}).values()
    return {meter_of(message) for group in groups for message in messages_in(group)} - {None}


def without_flows(played: Played, *meters: Meter) -> Switch:
    """A switch that has these meters, and has been sent what it lacks."""
    played.has_meters = meters
    switch = played.connect()
    played.app._wake.set()
    played.work()
    switch.take()
    played.dump(switch)
    played.work()
    return switch


def test_meters_are_added_before_the_flows_that_need_them_and_deleted_after(
    played: Played,
) -> None:
    switch = without_flows(played)
    assert commands(switch.take()) == ["add meter", "add flow"]
    played.watcher.serves()
    played.app._wake.set()
    played.work()
    sent = switch.take()
    assert commands(sent) == ["delete flow", "delete meter"]
    assert meters_in(sent) == [question_meter_number(2), meter_number(2)]


def test_a_meter_of_another_program_stays_and_the_port_has_none(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    played.watcher.serves(served(2), served(3))
    theirs = Meter(meter_number(2), PACKETS, (Band(DROP, 7, 7),))
    switch = without_flows(played, Meter(1, PACKETS, ()), theirs)
    both = [question_meter_number(3), meter_number(3)]
    assert meters_in(switch.take()) == both
    assert meters_wanted(played) == set(both)
    for _ in range(2):
        played.app._ask_for_dump()
        switch.take()
        played.dump(switch)
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "ofport 2 has no meter" in caplog.text


def test_a_switch_without_meters_has_flows_without_and_that_is_logged_once(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    played.highest_meter = 0
    switch = without_flows(played)
    assert commands(switch.take()) == ["add flow"]
    assert not meters_wanted(played)
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "has no meters" in caplog.text


def test_when_a_flow_with_a_meter_is_deleted_the_meters_are_asked_for(played: Played) -> None:
    """Deleting a meter deletes its flows, and the switch reports the flows alone."""
    switch = played.in_order()
    flow = next(flow for flow in played.desired().values() if meters_used([flow]))
    played.removed(switch, flow)
    assert switch.dumps_asked_for() == 1
    played.has_meters = ()
    played.dump(switch)
    played.work()
    assert commands(switch.take()) == ["add meter", "add flow"]


# What others delete.


def test_what_others_delete_is_put_back_at_once(played: Played) -> None:
    switch = played.in_order()
    flow = next(iter(played.desired().values()))
    played.removed(switch, flow)
    played.carries_out(switch)
    played.work()
    assert keys(switch.take(), OVS.OFPFC_ADD) == [(flow.key.table, flow.cookie)]


@pytest.mark.parametrize("why", ["not by deletion", "another switch", "another's", "not desired"])
def test_what_does_not_concern_us_is_not_put_back(played: Played, why: str) -> None:
    switch = played.in_order()
    flow = next(iter(played.desired().values()))
    match why:
        case "not by deletion":
            played.removed(switch, flow, reason=OVS.OFPRR_IDLE_TIMEOUT)
        case "another switch":
            played.removed(Switch("elsewhere"), flow)
        case "another's":
            played.removed(switch, replace(flow, cookie=1))
        case "not desired":
            of_another = pipeline(played.app._config.flows, 1, [Port(9, "fa:16:3e:00:00:09")])
            played.removed(
                switch,
                next(
                    f for k, f in of_another.items() if k.table == 0 and k not in played.desired()
                ),
            )
    played.work()
    assert switch.sent == []
    assert not played.hub.later


def test_what_a_dump_will_show_is_not_taken_from_the_message(played: Played) -> None:
    switch = played.in_order()
    played.app._ask_for_dump()
    flow = next(iter(played.desired().values()))
    played.removed(switch, flow)
    switch.take()
    played.dump(switch, *map(dumped, played.desired().values()))
    played.work()
    assert switch.sent == []


def test_flows_deleted_again_and_again_are_put_back_later_with_one_timer(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    switch = played.in_order()
    flow, other, *_ = played.desired().values()
    played.removed(switch, flow)
    played.carries_out(switch)
    played.work()
    played.carries_out(switch)
    played.hub.now += 1.0
    played.removed(switch, flow)
    played.removed(switch, other)
    played.work()
    assert switch.sent == []
    assert played.hub.run_later() == pytest.approx([FIRST])
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    played.work()
    assert len(keys(switch.take(), OVS.OFPFC_ADD)) == 2


def test_when_many_are_deleted_all_are_asked_for(played: Played) -> None:
    played.watcher.serves(*map(served, range(2, 40)))
    switch = played.in_order()
    flows = list(played.desired().values())
    for flow in flows[: MANY + 1]:
        played.removed(switch, flow)
    assert switch.dumps_asked_for() == 1
    played.work()
    assert switch.sent == []


def test_all_that_is_deleted_at_once_is_asked_for_once_and_comes_back_hooks_first(
    played: Played,
) -> None:
    played.watcher.serves(*map(served, range(2, 40)))
    switch = played.in_order()
    flows = list(played.desired().values())
    played.removed(switch, *flows)
    assert switch.dumps_asked_for() == 1
    played.dump(switch)
    played.work()
    bundle = [each for each in switch.take() if each[1] == wire.EXPERIMENTER]
    added = [each[24:] for each in bundle[1:-1]]
    assert bundle == list(wire.in_bundle(added))
    assert len(added) == len(flows)
    of_ports = [table_of(each) for each in added if cookie_of(each) != cookie()]
    assert of_ports == sorted(of_ports)


def test_the_few_that_are_deleted_at_once_come_back_together(played: Played) -> None:
    switch = played.in_order()
    two = [flow for flow in played.desired().values() if not meters_used([flow])][:2]
    played.removed(switch, two[0])
    played.hub.now += 1.0
    played.removed(switch, two[1])
    played.work()
    # Once the switch has reported all, and not as if another program went on deleting.
    assert switch.sent == [wire.barrier_message()]
    played.carries_out(switch)
    played.work()
    assert len(keys(switch.take(), OVS.OFPFC_ADD)) == len(two)
    assert not played.hub.later


# What the switch refuses.


def test_what_it_has_is_asked_for_some_time_after_it_refused_something(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    switch = played.in_order()
    played.refuses(switch)
    played.refuses(switch)
    assert "bridge br-int refused a message: OFPFMFC_TABLE_FULL" in caplog.text
    assert switch.sent == []
    assert played.hub.run_later() == [FIRST_AFTER_ERROR]
    assert switch.dumps_asked_for() == 1


def test_after_a_refused_bundle_flows_are_sent_singly(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    played.watcher.serves(*map(served, range(2, 40)))
    switch = played.in_order()
    error = SimpleNamespace(datapath=switch, type=0xFFFF, code=None, exp_type=2315, data=b"")
    played.app._error_arrived(SimpleNamespace(msg=error))
    assert "error type 65535, code 2315" in caplog.text
    played.hub.run_later()
    played.dump(switch)
    played.work()
    assert len(keys(switch.take(), OVS.OFPFC_ADD)) == len(played.desired())


def refusals(played: Played, switch: Switch, count: int) -> list[float]:
    """How long it waits each time the switch refuses one of the flows that it lacks."""
    waits = []
    for _ in range(count):
        played.refuses(switch)
        waits += played.hub.run_later()
        played.dump(switch)
        played.work()
    return waits


def test_it_waits_ever_longer_while_the_switch_refuses_but_no_longer_than_an_audit(
    played: Played,
) -> None:
    switch = played.in_order()
    longest = played.app._config.audit_interval
    waits = refusals(played, switch, 8)
    assert waits == [min(FIRST_AFTER_ERROR * 2**each, longest) for each in range(8)]
    assert waits[-1] == longest


def test_a_new_connection_has_it_wait_no_longer_than_at_first(played: Played) -> None:
    refusals(played, played.in_order(), 3)
    switch = played.connect()
    assert refusals(played, switch, 1) == [FIRST_AFTER_ERROR]


def test_so_does_a_switch_that_has_what_it_should(played: Played) -> None:
    switch = played.in_order()
    refusals(played, switch, 3)
    played.app._ask_for_dump()
    played.dump(switch, *map(dumped, played.desired().values()))
    played.work()
    played.carries_out(switch)
    assert refusals(played, switch, 1) == [FIRST_AFTER_ERROR]


def test_what_another_switch_refuses_does_not_matter(played: Played) -> None:
    played.in_order()
    played.refuses(Switch("elsewhere"))
    assert not played.hub.later


# The host and the deployment.


def test_a_bridge_that_cannot_be_prepared_is_looked_at_again(played: Played) -> None:
    played.watcher.ovsdb.refuses = True
    switch = played.in_order()
    assert set(played.hub.run_later()) == {FIRST_AFTER_ERROR}
    played.watcher.ovsdb.refuses = False
    played.work()
    assert not played.hub.later
    transactions = played.watcher.ovsdb.transactions
    played.app._wake.set()
    played.work()
    assert played.watcher.ovsdb.transactions == transactions
    assert switch.sent == []


@pytest.mark.parametrize(
    ("values", "stays"), [(None, True), ({ENABLED: False}, False), ({ENABLED: True}, True)]
)
@pytest.mark.parametrize("controller", ["external", "os-ken"])
def test_a_deployment_that_wants_no_metadata_has_no_flows(
    configured: Callable[..., None],
    hub: Hub,
    tmp_path: Path,
    *,
    controller: str,
    values: dict[str, bool] | None,
    stays: bool,
) -> None:
    configured("flows", "controller", controller)
    played = Played(hub, str(tmp_path / "br-int.mgmt"))
    switch = played.in_order()
    flows = played.desired()
    played.follows(values)
    deleted = keys(switch.take(), OVS.OFPFC_DELETE_STRICT)
    # As the agent's child it ends with the service.
    assert len(deleted) == (0 if stays or controller == "os-ken" else len(flows))


def test_the_metadata_options_are_those_of_the_last_valid_documents(played: Played) -> None:
    played.in_order()

    def policy() -> OptionPolicy | None:
        return played.watcher.policy

    played.watcher.policy = None
    played.follows(None)
    assert policy() is None
    limited = OptionPolicy(options=MetadataOptions(hop_limit=1))
    for values in ({OPTION_KEYS["hop_limit"]: 1}, None, {OPTION_KEYS["hop_limit"]: 65}):
        played.follows(values)
        assert policy() == limited


def test_it_waits_for_ovsdb_and_logs_that_once(
    played: Played, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    def watcher(*_: object, **__: object) -> Watcher:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OvsdbUnreachable("OVSDB at unix:/x does not answer")
        return played.watcher

    monkeypatch.setattr(app, "open_configured_store", lambda *_, **__: None)
    monkeypatch.setattr(app, "PortWatcher", watcher)
    monkeypatch.setattr(app, "ConfigurationFollower", lambda *_: None)
    played.app._watcher = None
    played.hub.naps = 3
    played.app._watch()
    assert played.app._watcher is cast("Any", played.watcher)
    assert caplog.messages == ["OVSDB at unix:/x does not answer: waiting for it"]


@pytest.mark.parametrize("controller", ["external", "os-ken"])
def test_it_follows_the_deployment_itself(
    configured: Callable[..., None],
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    controller: str,
) -> None:
    configured("flows", "controller", controller)
    played = Played(hub, str(tmp_path / "br-int.mgmt"))
    monkeypatch.setattr(app, "open_configured_store", lambda *_, **__: "store")
    monkeypatch.setattr(app, "ConfigurationFollower", lambda store, *_: f"follower of {store}")
    played.app._watch()
    assert cast("Any", played.app._deployment) == "follower of store"


def test_the_management_socket_is_tried_until_it_is_there(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[str] = []

    def serve(stream: Any, path: str) -> None:
        assert isinstance(stream, openflow.UnixStream)
        stream.close()
        connected.append(path)

    monkeypatch.setattr(openflow.controller, "datapath_connection_factory", serve)
    played.hub.naps = 1
    with pytest.raises(Ended):
        played.app._connect()
    assert connected == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(played.socket_path)
        listener.listen()
        with pytest.raises(Ended):
            played.app._connect()
    assert connected == [played.socket_path]


# What the process is.


def test_there_is_one_on_a_host(played: Played) -> None:
    assert played.app
    with pytest.raises(SystemExit, match="another flow controller is running"):
        MetadataFlows()


@pytest.mark.parametrize(
    ("error", "expected"),
    [(StoreError("the store is gone"), "the store is gone"), (KeyError("x"), "KeyError")],
)
def test_the_process_ends_with_what_it_cannot_do_without(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    expected: str,
) -> None:
    def end(status: int) -> None:
        raise SystemExit(status)

    def part() -> None:
        raise error

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    with pytest.raises(SystemExit) as ended:
        app._vital(part)
    assert ended.value.code == 1
    assert expected in caplog.text


# What it reports to the agent.


def test_the_report_is_about_connection_decision_and_flows(played: Played) -> None:
    assert played.app.report() == ControllerReport()
    switch = played.in_order()
    wanted = len(played.desired())
    found = played.app.report()
    assert found == ControllerReport(connected=True, decided=True, wanted=wanted)
    assert parse_report(found.line()) == found
    played.changes(switch, openflow.handler.DEAD_DISPATCHER)
    assert not played.app.report().connected


def test_flows_that_another_program_changes_are_counted_and_ours_are_not(played: Played) -> None:
    switch = played.in_order()
    flows = list(played.desired().values())
    played.removed(switch, flows[0])
    played.carries_out(switch)
    played.work()
    assert (played.app.report().repaired, played.app.report().missing) == (1, 0)

    def audit(*stats: reported.DumpedStats) -> tuple[int, int, int]:
        played.app._ask_for_dump()
        played.dump(switch, *stats)
        played.work()
        found = played.app.report()
        return found.missing, found.unexpected, found.repaired

    others = pipeline(played.app._config.flows, 1, [Port(9, "fa:16:3e:00:00:09")]).values()
    stale = dumped(next(each for each in others if each.key not in played.desired()))
    assert audit(*map(dumped, flows[2:]), stale) == (2, 1, 4)
    assert audit(*map(dumped, flows)) == (0, 0, 4)
    # A port that comes while the switch is asked is our change.
    played.app._ask_for_dump()
    played.watcher.serves(served(2), served(3))
    played.app._wake.set()
    played.work()
    played.dump(switch, *map(dumped, flows))
    played.work()
    assert (played.app.report().missing, played.app.report().repaired) == (0, 4)
    assert played.app.report().wanted == len(played.desired()) > len(flows)


def test_a_switch_refuses_until_it_has_all_flows(played: Played) -> None:
    switch = played.in_order()
    played.refuses(switch)
    assert (played.app.report().refused, played.app.report().refusing) == (1, True)
    played.hub.run_later()
    played.dump(switch)
    played.work()
    assert played.app.report().refusing
    played.app._ask_for_dump()
    played.dump(switch, *map(dumped, played.desired().values()))
    played.work()
    assert played.app.report().refusing
    played.carries_out(switch)
    assert (played.app.report().refused, played.app.report().refusing) == (1, False)


def test_a_switch_that_accepts_what_it_had_refused_does_not_refuse_any_longer(
    played: Played,
) -> None:
    switch = played.in_order()
    played.refuses(switch)
    played.hub.run_later()
    played.dump(switch)
    played.work()
    assert keys(switch.sent, OVS.OFPFC_ADD)
    assert played.app.report().refusing
    played.carries_out(switch)
    assert not played.app.report().refusing
    assert refusals(played, switch, 1) == [FIRST_AFTER_ERROR]


def test_a_switch_that_refuses_again_still_refuses_although_others_are_accepted(
    played: Played,
) -> None:
    switch = played.in_order()
    refusals(played, switch, 1)
    played.refuses(switch)
    played.carries_out(switch)
    assert played.app.report().refusing
    # The flows of a port that comes meanwhile are accepted: those refused are not there yet.
    played.watcher.serves(served(2), served(3))
    played.app._wake.set()
    played.work()
    assert keys(switch.take(), OVS.OFPFC_ADD)
    assert played.app.report().refusing


def test_a_refused_frame_leaves_no_flow_missing(played: Played) -> None:
    switch = played.in_order()
    played.refuses(switch, wire.PACKET_OUT)
    found = played.app.report()
    assert (found.refused, found.refusing) == (1, False)
    assert not played.hub.later


def test_a_switch_that_refuses_nothing_is_asked_for_no_barrier(played: Played) -> None:
    switch = played.in_order()
    played.watcher.serves(served(2), served(3))
    played.app._wake.set()
    played.work()
    sent = switch.take()
    assert keys(sent, OVS.OFPFC_ADD)
    assert wire.barrier_message() not in sent


@pytest.mark.parametrize(
    "line", [b"", b"5", b"{}", b'{"connected": 1}', ControllerReport().line()[:-3]]
)
def test_another_line_is_no_report(line: bytes) -> None:
    assert parse_report(line) is None
