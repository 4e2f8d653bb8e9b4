"""Removes all our flows and meters from the bridge, without an application or a hub."""

import logging

from ovs_metadata.flows import meter_wire, wire
from ovs_metadata.flows.connection import OpenFlowConnection
from ovs_metadata.flows.dump import dump_flows, dump_meters
from ovs_metadata.flows.meters import sort_out
from ovs_metadata.host.config import Config

LOG = logging.getLogger(__name__)


def remove_flows(config: Config) -> None:
    """Delete all our flows and meters; returns once the switch has deleted them.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    # Hooks first: at no moment does one lead to a table that is empty.
    flows = sorted(dump_flows(config, {}), key=lambda flow: flow.key.table)
    meters, _taken = sort_out(dump_meters(config))
    with OpenFlowConnection(config.management_socket) as switch:
        for flow in flows:
            message = wire.delete_message(config.flows, flow.key, flow.cookie)
            switch.send(message)
        switch.send(*map(meter_wire.delete_meter, sorted(meters)))
        switch.send(wire.barrier_message())
        switch.receive(wire.BARRIER_REPLY)
    LOG.info("bridge %s: removed all of our flows and meters", config.bridge)
