"""Which flows of others stand where ours are to stand. Blocking, changes nothing.

Of each flow only the fixed part is read (ofp_flow_stats of OpenFlow 1.3): matches and actions of
others may be of kinds that the library does not know.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ovs_metadata.flows import openflow
from ovs_metadata.flows.conversation import Conversation
from ovs_metadata.flows.tables import is_ours, table_names
from ovs_metadata.host.config import Config

_MULTIPART = struct.Struct("!8xHH4x")
"""OpenFlow header, type, flags."""

_MORE = 1
"""Flag OFPMPF_REPLY_MORE: another reply follows."""

_FLOW = struct.Struct("!HBx8xH10xQ")
"""Length, table, priority, cookie; durations, timeouts and flags are passed over."""


@dataclass(frozen=True, slots=True)
class OthersFlows:
    """tables: those of ours in which somebody else has flows.

    above: how many flows of others in table 0 go before our hooks, or have the same priority.
    """

    tables: tuple[int, ...]
    above: int


def others_flows(config: Config) -> OthersFlows:
    """Look at all flows of the bridge.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    message = openflow.dump_message(openflow.offline_datapath())
    message.cookie = message.cookie_mask = 0  # not ours alone
    others: list[tuple[int, int]] = []
    with Conversation(config.management_socket) as switch:
        switch.send(message)
        more = True
        while more:
            data = switch.receive(openflow.MULTIPART_REPLY)
            _, flags = _MULTIPART.unpack_from(data)
            more = bool(flags & _MORE)
            others += [
                (table, priority)
                for table, priority, cookie in flows_of_reply(data)
                if not is_ours(cookie)
            ]
    ours = table_names(config.flows.table_base)
    return OthersFlows(
        tables=tuple(sorted({table for table, _ in others if table in ours})),
        above=sum(table == 0 and priority >= config.flows.priority for table, priority in others),
    )


def flows_of_reply(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Table, priority and cookie of each flow of one multipart reply."""
    at = _MULTIPART.size
    while at + _FLOW.size <= len(data):
        length, table, priority, cookie = _FLOW.unpack_from(data, at)
        yield table, priority, cookie
        at += max(length, _FLOW.size)
