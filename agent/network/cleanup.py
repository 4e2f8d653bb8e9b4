"""Removes every trace of us from this host: flows, table names, metadata port, namespace.

The store is not this host's, and stays. Blocking; runs once, with the agent stopped.
"""

import contextlib
import logging
from collections.abc import Callable

from ovs_metadata.agent.network import metadata_port, namespaces
from ovs_metadata.flows.bridge import forget_bridge, prepare_bridge
from ovs_metadata.flows.cleanup import remove_flows
from ovs_metadata.flows.tables import table_names
from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb import Ovsdb, OvsdbRefused, OvsdbUnreachable
from ovs_metadata.host.store import remove_snapshots

LOG = logging.getLogger(__name__)

_Step = tuple[str, Callable[[], None]]
"""What is to be removed, and how."""


class CleanupError(Exception):
    """Something is still there; the message says what, and why."""


def remove_every_trace(config: Config, *, snapshots: bool = False) -> None:
    """Remove it all; what is not there is no error. One obstacle does not keep the rest from going.

    Args:
        config: this host's.
        snapshots: whether to remove the snapshots of the store, too; they hold the shared secret.

    Raises:
        CleanupError: some of it could not be removed.
    """
    failures = []
    steps: list[_Step] = []
    with contextlib.ExitStack() as opened:
        try:
            ovsdb = Ovsdb(config.ovsdb_connection, config.bridge, lambda _bridge: None)
        except OvsdbUnreachable as error:
            # Without the bridge there is no management socket to remove flows by, either.
            failures.append(f"flows, table names and metadata port: {error}")
        else:
            opened.callback(ovsdb.close)
            steps = _on_the_bridge(config, ovsdb)
        steps.append(("network namespace", lambda: namespaces.remove_namespace(config.namespace)))
        if snapshots:
            steps.append(("snapshots", lambda: remove_snapshots(config)))
        for what, remove in steps:
            try:
                remove()
                LOG.info("%s: done", what)
            except (OSError, OvsdbRefused) as error:
                failures.append(f"{what}: {error}")
    if failures:
        raise CleanupError("; ".join(failures))


def _on_the_bridge(config: Config, ovsdb: Ovsdb) -> list[_Step]:
    bridge = ovsdb.bridge
    if bridge is None:
        LOG.info(
            "there is no bridge %s, so there are no flows, table names or port to remove",
            config.bridge,
        )
        return []
    table_base = config.flows.table_base
    return [
        # To delete flows the bridge has to speak our version of OpenFlow.
        ("protocol", lambda: prepare_bridge(ovsdb, bridge, table_base)),
        ("flows", lambda: _remove_flows(config)),
        ("table names", lambda: forget_bridge(ovsdb, table_base)),
        ("metadata port", lambda: metadata_port.remove_metadata_port(ovsdb)),
    ]


def has_traces(config: Config) -> bool:
    """Whether the agent has, or may have, anything on this host.

    Flows are not looked for: for that the bridge must speak our version of OpenFlow, and where we
    are not wanted nothing is changed. Our tables have been given names before they had flows.

    Raises:
        OvsdbUnreachable: OVSDB does not answer.
    """
    if namespaces.namespace_id(config.namespace) is not None:
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
            "ovs-vswitchd does not listen on %s: it is not running, so it has no flows",
            config.management_socket,
        )
