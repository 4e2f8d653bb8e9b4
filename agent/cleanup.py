"""Removes every trace of us from this host: flows, table names, metadata port, namespace.

The store is not this host's, and stays. Blocking; runs once, with the agent stopped.
"""

import logging

from ovs_metadata.agent import plumbing
from ovs_metadata.flows.bridge import forget_bridge
from ovs_metadata.flows.cleanup import remove_flows
from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb import Ovsdb

LOG = logging.getLogger(__name__)


def remove_every_trace(config: Config) -> None:
    """Remove it all; what is not there is no error.

    Raises:
        OvsdbUnreachable: OVSDB does not answer.
        OSError: the bridge is there, but its management socket is silent.
    """
    ovsdb = Ovsdb(config.ovsdb_connection, config.bridge, lambda _bridge: None)
    try:
        if ovsdb.bridge is None:
            LOG.info("there is no bridge %s, so nothing of ours is on it", config.bridge)
        else:
            remove_flows(config)
            forget_bridge(ovsdb, config.flows.table_base)
            plumbing.remove_metadata_port(ovsdb)
    finally:
        ovsdb.close()
    plumbing.remove_namespace(config.namespace)
    LOG.info("network namespace %s is removed", config.namespace)
