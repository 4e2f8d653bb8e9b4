"""The flows that a host should have, as messages, at the cost of what has changed.

Its result is that of `desired_flows`. The messages of a port are made when it changes, and kept.
"""

from collections.abc import Mapping

from ovs_metadata.flows.desired import port_of
from ovs_metadata.flows.flow_message import count
from ovs_metadata.flows.meters import MeterRoom
from ovs_metadata.flows.pipeline import port_flows, shared_flows
from ovs_metadata.flows.wire import add_message
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.join import ServedPort
from ovs_metadata.host.shared_map import SharedMap, changed_keys

Groups = Mapping[int, bytes]
"""The messages that add the flows of each place, in one piece; SHARED has those for all ports."""

SHARED = 0
"""The place in the cookies of the flows that all ports need (flows/tables.py)."""


class DesiredMessages:
    """The flows of one host, look by look. A group is the same object until its flows change."""

    def __init__(self, options: FlowOptions) -> None:
        self._options = options
        self._metadata_ofport: int | None = None
        self._meters = MeterRoom()
        self._served: Mapping[int, ServedPort] = {}
        self._groups: SharedMap[int, bytes] = SharedMap()
        self.number = 0
        """Of flows."""

    def look(
        self, metadata_ofport: int | None, served: Mapping[int, ServedPort], meters: MeterRoom
    ) -> Groups:
        """The messages of all flows; the caller leaves `served` as it is."""
        if metadata_ofport is None:
            served = {}
        if (metadata_ofport, meters) == (self._metadata_ofport, self._meters):
            changed = changed_keys(self._served, served)
            if not changed:
                return self._groups
        else:
            changed = {SHARED, *self._served, *served}
        self._metadata_ofport, self._meters, self._served = metadata_ofport, meters, served
        messages = {place: self._messages(place) for place in changed}
        for place, group in messages.items():
            self.number += count(group) - count(self._groups.get(place, b""))
        present = {place: group for place, group in messages.items() if group}
        self._groups = self._groups.with_changes(present, gone=messages)
        return self._groups

    def _messages(self, place: int) -> bytes:
        metadata_ofport, served = self._metadata_ofport, self._served.get(place)
        if metadata_ofport is None:
            return b""
        if place == SHARED:
            flows = [*shared_flows(self._options, metadata_ofport)]
        elif served is not None and served.ofport != metadata_ofport:
            flows = port_flows(self._options, metadata_ofport, port_of(served, self._meters))
        else:
            return b""
        return b"".join(add_message(self._options, flow) for flow in flows)
