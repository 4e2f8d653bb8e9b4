"""Removes every trace of us from this host: flows, table names, metadata port, namespace.

The store is not this host's, and stays. Blocking; runs once, with the agent stopped.
"""

import contextlib
import logging
from collections.abc import Callable

from ovs_metadata.agent import plumbing
from ovs_metadata.flows.bridge import forget_bridge, prepare_bridge
from ovs_metadata.flows.cleanup import remove_flows
from ovs_metadata.flows.tables import table_names
from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb import Ovsdb, OvsdbRefused

LOG = logging.getLogger(__name__)


class CleanupError(Exception):
    """Something is still there; the message says what, and why."""


def remove_every_trace(config: Config) -> None:
    """Remove it all; what is not there is no error. One obstacle does not keep the rest from going.

    Raises:
        OvsdbUnreachable: OVSDB does not answer.
        CleanupError: some of it could not be removed.
    """
    ovsdb = Ovsdb(config.ovsdb_connection, config.bridge, lambda _bridge: None)
    steps: list[tuple[str, Callable[[], None]]] = []
    if ovsdb.bridge is None:
        LOG.info("there is no bridge %s, so nothing of ours is on it", config.bridge)
    else:
        bridge = ovsdb.bridge
        steps = [
            # To delete flows the bridge has to speak our version of OpenFlow.
            ("protocol", lambda: prepare_bridge(ovsdb, bridge, config.flows.table_base)),
            ("flows", lambda: _remove_flows(config)),
            ("table names", lambda: forget_bridge(ovsdb, config.flows.table_base)),
            ("metadata port", lambda: plumbing.remove_metadata_port(ovsdb)),
        ]
    steps.append(("network namespace", lambda: plumbing.remove_namespace(config.namespace)))
    failures = []
    for what, remove in steps:
        try:
            remove()
            LOG.info("%s: done", what)
        except (OSError, OvsdbRefused) as error:
            failures.append(f"{what}: {error}")
    ovsdb.close()
    if failures:
        raise CleanupError("; ".join(failures))


def has_traces(config: Config) -> bool:
    """Whether something of ours is, or may be, on this host.

    Flows are not looked for: for that the bridge must speak our version of OpenFlow, and where we
    are not wanted nothing is changed. Our tables have been given names before they had flows.

    Raises:
        OvsdbUnreachable: OVSDB does not answer.
    """
    if plumbing.namespace_id(config.namespace) is not None:
        return True
    with contextlib.closing(Ovsdb(config.ovsdb_connection, config.bridge, lambda _: None)) as ovsdb:
        bridge = ovsdb.bridge
    if bridge is None:
        return False
    named = dict(bridge.table_names)
    ours = table_names(config.flows.table_base).items()
    port = bridge.metadata_port
    return bool(port and port.ours) or any(named.get(number) == name for number, name in ours)


def _remove_flows(config: Config) -> None:
    try:
        remove_flows(config)
    except (FileNotFoundError, ConnectionRefusedError):
        LOG.warning(
            "nobody listens on %s: ovs-vswitchd does not run, and so has no flows",
            config.management_socket,
        )
