"""Removes every flow of ours from the bridge, without an application or a hub."""

import logging

from ovs_metadata.flows import openflow
from ovs_metadata.flows.conversation import Conversation
from ovs_metadata.host.config import Config

LOG = logging.getLogger(__name__)


def remove_flows(config: Config) -> None:
    """Delete all flows with our cookie; returns once the switch has done it.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    offline = openflow.offline_datapath()
    with Conversation(config.management_socket) as switch:
        switch.send(openflow.delete_all_message(offline), openflow.barrier_message(offline))
        switch.receive(openflow.BARRIER_REPLY)
    LOG.info("bridge %s: every flow of ours is removed", config.bridge)
