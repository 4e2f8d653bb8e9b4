"""Decides what flows the switch should have, each time the host changes. No I/O of its own."""

import logging
from collections.abc import Callable, Collection

from ovs_metadata.flows.desired import MetadataNumber, metadata_number
from ovs_metadata.flows.desired_messages import DesiredMessages, Groups
from ovs_metadata.flows.meters import MeterRoom
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.ovsdb import Bridge, OvsdbRefused
from ovs_metadata.host.port_watcher import HostState

LOG = logging.getLogger(__name__)


class Decision:
    """The flows of one bridge, by the last state of the host that was looked at.

    `flows` is None until then. `undecided` are the places whose flows are not decided yet.
    """

    def __init__(self, options: FlowOptions) -> None:
        self._messages = DesiredMessages(options)
        self._seen: tuple[HostState, MeterRoom] | None = None
        self._prepared = False
        self._metadata: MetadataNumber | None = None
        self.flows: Groups | None = None
        self.undecided: Collection[int] = ()

    @property
    def bridge(self) -> Bridge | None:
        """The bridge as last looked at."""
        return self._seen[0].bridge if self._seen else None

    @property
    def number(self) -> int:
        """How many flows those are."""
        return self._messages.number if self.flows else 0

    def disable(self) -> None:
        """Metadata is not wanted: no flows."""
        self._seen = self._metadata = None
        self.flows, self.undecided = {}, ()

    def look(self, state: HostState, meters: MeterRoom, prepare: Callable[[Bridge], None]) -> bool:
        """Decide by this state of host and switch; False if the bridge could not be prepared.

        Then it is to be called again soon.

        `prepare` does what the flows need of the bridge; it raises OvsdbRefused.
        """
        if self._seen == (state, meters) and self._prepared:
            return True
        self._seen = state, meters
        self._prepared = True
        if state.bridge:
            try:
                prepare(state.bridge)
            except OvsdbRefused as error:
                LOG.error("cannot prepare bridge %s: %s; trying again", state.bridge.name, error)
                self._prepared = False
        self._metadata = metadata_number(state.bridge, self._metadata)
        ofport = self._metadata.ofport if self._metadata else None
        self.flows = self._messages.look(ofport, state.host_ports.served, meters)
        self.undecided = state.host_ports.undecided
        return self._prepared
