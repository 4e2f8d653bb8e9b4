"""The messages of a host's flows: at each look those of all flows, at the cost of the changes."""

import runpy
from dataclasses import replace
from pathlib import Path
from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.flows.desired import desired_flows
from ovs_metadata.flows.desired_messages import SHARED, DesiredMessages
from ovs_metadata.flows.flow_message import by_key, cookie_of
from ovs_metadata.flows.meters import MeterRoom, meter_number
from ovs_metadata.flows.tables import place_of_cookie
from ovs_metadata.flows.wire import add_message
from ovs_metadata.host.address import place_of
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.store.record import PortRecord

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "change_controller.py"
OPTIONS = FlowOptions()
METERS = MeterRoom(1 << 18)
PLACES = [1, 2, 3, 4, place_of(2, 42), place_of(3, 42)]
ROOMS = [MeterRoom(), METERS, MeterRoom(1 << 18, frozenset({meter_number(3)}))]


def served(place: int, mac: int = 1, revision: int = 1) -> ServedPort:
    record = PortRecord(
        port_id=str(UUID(int=place)),
        project_id="project",
        device_id=str(UUID(int=place)),
        device_owner="compute:nova",
        mac_address=f"fa:16:3e:00:00:{mac:02x}",
        fixed_ips=("10.0.0.5",),
        network_id=str(UUID(int=1)),
        revision_number=revision,
    )
    return ServedPort(place & 0xFFFF, f"tap{place}", record, vlan=place >> 16)


def computed(
    metadata_ofport: int | None, ports: dict[int, ServedPort], meters: MeterRoom
) -> set[bytes]:
    flows = desired_flows(OPTIONS, metadata_ofport, HostPorts(served=ports), meters)
    return {add_message(OPTIONS, flow) for flow in flows.values()}


@given(st.integers(min_value=0))
def test_after_any_changes_they_are_those_of_all_desired_flows(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    messages = DesiredMessages(OPTIONS)
    ports: dict[int, ServedPort] = {}
    host: tuple[int | None, dict[int, ServedPort], MeterRoom] = (None, ports, METERS)
    history = [host]
    for _ in range(12):
        metadata_ofport, ports, meters = host
        match random.randrange(8):
            case 0:
                metadata_ofport = random.choice([None, 1, 1, 2])
            case 1:
                meters = random.choice(ROOMS)
            case 2:
                ports = {key: each for key, each in ports.items() if random.random() < 0.7}
            case 3:
                metadata_ofport, ports, meters = random.choice(history)
            case _:
                place = random.choice(PLACES)
                ports = ports | {place: served(place, *random.choices([1, 2], k=2))}
        host = metadata_ofport, ports, meters
        history.append(host)
        groups = messages.look(*host)
        found = [each for group in groups.values() for each in by_key(group).values()]
        assert set(found) == computed(*host)
        assert len(found) == messages.number
        for place, group in groups.items():
            assert {place_of_cookie(cookie_of(each)) for each in by_key(group).values()} == {place}


def test_a_group_stays_the_same_object_until_its_flows_change() -> None:
    messages = DesiredMessages(OPTIONS)
    ports = {place: served(place) for place in PLACES[1:]}
    first = messages.look(1, ports, METERS)
    assert messages.look(1, dict(ports), METERS) is first
    second = messages.look(1, ports | {2: served(2, revision=2), 3: served(3, mac=9)}, METERS)
    assert {place for place in first if first[place] is not second[place]} == {3}
    third = messages.look(1, ports, replace(METERS, taken=frozenset({meter_number(2)})))
    assert {place for place in first if second[place] is not third[place]} == {
        *(2, 3, place_of(2, 42)),
    }
    assert SHARED in third


def test_a_change_takes_as_many_calls_with_many_ports_as_with_few() -> None:
    calls_of_changes = runpy.run_path(str(BENCHMARK))["calls_of_changes"]
    calls_of_changes(20)  # what is made once in a process
    assert calls_of_changes(20) == calls_of_changes(200)
