"""Reads our flows out of the bridge, with counters, for commands: blocking, without a hub."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ovs_metadata.flows import meter_wire, reported, wire
from ovs_metadata.flows.connection import OpenFlowConnection
from ovs_metadata.flows.meters import Meter, MeterRoom, sort_out
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import Config


@dataclass(frozen=True, slots=True)
class DumpedFlow:
    """One of our flows as the switch has it.

    `as_desired`: the flow is desired, and has the desired actions.
    """

    key: FlowKey
    cookie: int
    packets: int
    octets: int
    as_desired: bool = True


def dump_flows(config: Config, desired: Mapping[FlowKey, Flow]) -> list[DumpedFlow]:
    """All our flows.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    flows = []
    for stats in _asked_for(config, wire.dump_message()):
        key = reported.our_key(config.flows, stats)
        if key is None:
            continue
        flow = desired.get(key)
        flows.append(
            DumpedFlow(
                key=key,
                cookie=stats.cookie,
                packets=stats.packet_count,
                octets=stats.byte_count,
                as_desired=flow is not None and reported.same_content(stats, flow),
            )
        )
    return flows


def others_flows(config: Config) -> list[tuple[int, int]]:
    """Table and priority of each flow that is not ours.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    return [
        (stats.table_id, stats.priority)
        for stats in _asked_for(config, wire.dump_of_all_message())
        if reported.our_key(config.flows, stats) is None
    ]


def dump_meters(config: Config) -> list[Meter]:
    """All meters, our own and those of other programs.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    with OpenFlowConnection(config.management_socket) as switch:
        return _meters(switch)


def meter_room(config: Config) -> MeterRoom:
    """Which of our meters the switch can have.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    with OpenFlowConnection(config.management_socket) as switch:
        switch.send(meter_wire.features_request())
        highest = meter_wire.highest_number(switch.receive(wire.MULTIPART_REPLY))
        _ours, taken = sort_out(_meters(switch))
    return MeterRoom(highest, taken)


def _meters(switch: OpenFlowConnection) -> list[Meter]:
    switch.send(meter_wire.meters_request())
    meters: list[Meter] = []
    more = True
    while more:
        part, more = meter_wire.meters_of(switch.receive(wire.MULTIPART_REPLY))
        meters += part
    return meters


def _asked_for(config: Config, request: bytes) -> Iterator[reported.DumpedStats]:
    with OpenFlowConnection(config.management_socket) as switch:
        switch.send(request)
        more = True
        while more:
            entries, more = wire.entries_of(switch.receive(wire.MULTIPART_REPLY))
            yield from map(reported.DumpedStats, entries)
