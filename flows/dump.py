"""Reads our flows out of the bridge, with counters, for commands: blocking, without a hub."""

from collections.abc import Mapping
from dataclasses import dataclass

from ovs_metadata.flows import openflow, reported
from ovs_metadata.flows.conversation import Conversation
from ovs_metadata.flows.tables import Priority, Table
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import Config


@dataclass(frozen=True, slots=True)
class DumpedFlow:
    """One flow of ours as it stands in the switch.

    `as_desired`: it is one that should be there, and does just what it should. `learned`: the
    switch made it itself; `restores` is the address to which it then sends answers.
    """

    key: FlowKey
    cookie: int
    packets: int
    octets: int
    as_desired: bool = True
    learned: bool = False
    restores: str | None = None


def dump_flows(config: Config, desired: Mapping[FlowKey, Flow]) -> list[DumpedFlow]:
    """All flows with our cookie, learned ones included.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    learned_in = config.flows.table_base + Table.Learned
    flows = []
    with Conversation(config.management_socket) as switch:
        switch.send(openflow.dump_message(openflow.offline_datapath()))
        more = True
        while more:
            message = openflow.from_bytes(switch.receive(openflow.MULTIPART_REPLY))
            more = openflow.more_to_come(message)
            for stats in message.body:
                key = reported.key_of(stats)
                flow = desired.get(key)
                learned = key.table == learned_in and key.priority == Priority.Learned
                flows.append(
                    DumpedFlow(
                        key=key,
                        cookie=stats.cookie,
                        packets=stats.packet_count,
                        octets=stats.byte_count,
                        as_desired=flow is not None and reported.same_content(stats, flow),
                        learned=learned,
                        restores=reported.restored_destination(stats) if learned else None,
                    )
                )
    return flows
