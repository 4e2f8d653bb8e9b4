"""Decides what flows the switch should have, each time the host changes. No I/O of its own."""

import logging
from collections.abc import Callable, Collection, Mapping

from ovs_metadata.flows.desired import MetadataNumber, desired_flows, metadata_number
from ovs_metadata.flows.pipeline import Pipeline
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.join import HostPorts
from ovs_metadata.host.ovsdb import Bridge, OvsdbRefused
from ovs_metadata.host.port_watcher import HostState

LOG = logging.getLogger(__name__)


class Decision:
    """The flows of one bridge, by the last state of the host that was looked at.

    `flows` is None until then. `undecided` are the ofports whose flows are not decided yet.
    """

    def __init__(self, options: FlowOptions) -> None:
        self._options = options
        self._pipeline = Pipeline()
        self._state: HostState | None = None
        self._prepared = False
        self._metadata: MetadataNumber | None = None
        self._decided_by: tuple[int | None, HostPorts] | None = None
        self.flows: Mapping[FlowKey, Flow] | None = None
        self.undecided: Collection[int] = ()

    @property
    def bridge(self) -> Bridge | None:
        """The bridge as last looked at."""
        return self._state.bridge if self._state else None

    def disable(self) -> None:
        """Metadata is not wanted: no flows."""
        self._state = self._decided_by = self._metadata = None
        self.flows, self.undecided = {}, ()

    def look(self, state: HostState, prepare: Callable[[Bridge], None]) -> bool:
        """Decide by this state; False if the bridge could not be prepared: look again soon.

        `prepare` does what the flows need of the bridge; it raises OvsdbRefused.
        """
        if state == self._state and self._prepared:
            return True
        self._state = state
        self._prepared = True
        if state.bridge:
            try:
                prepare(state.bridge)
            except OvsdbRefused as error:
                LOG.error("cannot prepare bridge %s: %s; trying again", state.bridge.name, error)
                self._prepared = False
        self._metadata = metadata_number(state.bridge, self._metadata)
        decided_by = self._metadata.ofport if self._metadata else None, state.host_ports
        if decided_by != self._decided_by:
            self._decided_by = decided_by
            self.flows = desired_flows(self._options, *decided_by, self._pipeline)
            self.undecided = state.host_ports.undecided
        return self._prepared
