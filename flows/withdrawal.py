"""Withdraws the hooks for guests' new connections; open connections still get to the proxy.

For a host that is being disabled: another metadata service on the network gets new requests at
once, and no request in flight is cut off. Blocking; runs once. The flow controller must not run
meanwhile, for it would put the hooks back.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ovs_metadata.flows import wire
from ovs_metadata.flows.connection import OpenFlowConnection
from ovs_metadata.flows.dump import dump_flows
from ovs_metadata.flows.family import FAMILIES, in_vlan
from ovs_metadata.flows.tables import Table, cookie, ofport_of
from ovs_metadata.flows.values import Flow, FlowKey, GotoTable, Match
from ovs_metadata.host.address import IpVersion, ofport_at, vlan_at
from ovs_metadata.host.config import Config, FlowOptions


@dataclass(frozen=True, slots=True)
class Connection:
    """A guest's connection to the proxy: the place it comes in at, and its own TCP port."""

    version: IpVersion
    place: int
    tcp_port: int


def withdraw_hooks(config: Config, connections: Callable[[], Collection[Connection]]) -> None:
    """Replace all hooks of instances' ports by those of `connections`, which is called twice.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    hooks = [
        (flow.key, flow.cookie)
        for flow in dump_flows(config, {})
        if takes_new_connections(flow.key, flow.cookie)
    ]
    with OpenFlowConnection(config.management_socket) as switch:

        def keep(these: Collection[Connection]) -> None:
            flows = (hook_of(config.flows, each) for each in these)
            switch.send(*(wire.add_message(config.flows, flow) for flow in flows))
            switch.send(wire.barrier_message())
            switch.receive(wire.BARRIER_REPLY)

        kept = frozenset(connections())
        keep(kept)
        switch.send(*(wire.delete_message(config.flows, *hook) for hook in hooks))
        keep(())
        # Connections that guests opened meanwhile.
        keep(frozenset(connections()) - kept)


def takes_new_connections(key: FlowKey, of_cookie: int) -> bool:
    """Whether our flow is a hook that takes an instance's new connections to the proxy."""
    return key.table == 0 and ofport_of(of_cookie) != 0 and "tcp_src" not in dict(key.match.fields)


def hook_of(options: FlowOptions, connection: Connection) -> Flow:
    """The hook for one connection alone."""
    (family,) = (each for each in FAMILIES if each.version == connection.version)
    match = Match.of(
        in_port=ofport_at(connection.place),
        vlan_vid=in_vlan(vlan_at(connection.place)),
        **family.request,
        tcp_src=connection.tcp_port,
    )
    return Flow(
        FlowKey(0, options.priority, match),
        (GotoTable(options.table_base + Table.ToProxy),),
        cookie(connection.place),
        "hook: a connection that is there, while the host is being disabled",
    )
