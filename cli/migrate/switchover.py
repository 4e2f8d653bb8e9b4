"""Enables and disables one host in the store, and checks the result on the host. Blocking.

It writes the host's own document, which overrides templates, so hosts migrate one by one.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from ovs_metadata.agent.announcement import read_announcement
from ovs_metadata.agent.config.effective import config_digest, effective
from ovs_metadata.agent.network.cleanup import remove_every_trace
from ovs_metadata.cli.doctor.open_vswitch import read_switch
from ovs_metadata.cli.host_view import read_host
from ovs_metadata.flows.dump import dump_flows
from ovs_metadata.flows.withdrawal import takes_new_connections
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import ServedPort
from ovs_metadata.host.lock import AlreadyRunning, take_lock
from ovs_metadata.metadata_options import MetadataOptions
from ovs_metadata.store import layout
from ovs_metadata.store.configuration import ENABLED, read_sources
from ovs_metadata.store.documents import change
from ovs_metadata.store.store import Store

NAMED = 5
"""Ports that are named at most where several have the same trouble."""

INTERVAL = 0.25
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class HostAgent:
    """What matters here of what an agent says of itself."""

    alive: bool
    enabled: bool
    applied: bool
    """Whether it applies the present configuration."""
    ports_served: int
    last_error: str


def switch_host(store: Store, host: str, *, enabled: bool) -> None:
    """Write a host's own `enabled`; raises StoreError, MalformedDocument."""
    change(store, layout.config_node_path(host), lambda values: {**values, ENABLED: enabled})


def announced(store: Store, host: str) -> HostAgent | None:
    """What the agent of a host says; None if there never was one, or it cannot be understood.

    Raises:
        StoreError: the store cannot be read.
        MalformedDocument: the configuration of the host cannot be.
    """
    found = store.announced_at(layout.agent_path(host))
    status = read_announcement(found.data) if found else None
    if found is None or status is None:
        return None
    wanted = config_digest(effective(read_sources(store, host)).values)
    return HostAgent(
        alive=found.alive,
        enabled=status.enabled,
        applied=status.generation == wanted,
        ports_served=status.ports_served,
        last_error=status.last_error,
    )


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Ask until it is true, or `timeout` seconds have passed; returns whether it became true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(INTERVAL)
    return True


def what_is_left(config: Config) -> str:
    """Why we may still serve guests of this host; empty if the bridge has nothing of the agent.

    Flows and the metadata port serve guests. If Open vSwitch does not answer, both may exist.
    """
    switch = read_switch(config)
    if switch.unreachable or switch.silent:
        return switch.unreachable or switch.silent
    if switch.bridge is None:
        return ""
    port = switch.bridge.metadata_port
    if port is not None and port.ours:
        return "the metadata port is still there"
    try:
        return "flows are still there" if dump_flows(config, {}) else ""
    except OSError as error:
        return f"{config.management_socket}: {error.strerror or error}"


def hooks_are_withdrawn(config: Config) -> bool:
    """Whether no hook takes guests' new connections.

    That is so if ovs-vswitchd does not answer, too: without it there are no flows.
    """
    try:
        flows = dump_flows(config, {})
    except OSError:
        return True
    return not any(takes_new_connections(flow.key, flow.cookie) for flow in flows)


def remove_without_agent(config: Config) -> bool:
    """Remove every trace of the agent from this host, unless an agent runs here: it does that.

    Returns whether none runs. The snapshots of the store are removed, too: they say that this host
    is enabled, and an agent that starts while the store does not answer would serve by them.

    Raises:
        CleanupError: something could not be removed.
        OSError: the agent's lock cannot be taken, for lack of permission for example.
    """
    try:
        lock = take_lock(config.state_dir / "agent.lock", "agent")
    except AlreadyRunning:
        return False
    with lock:
        remove_every_trace(config, snapshots=True)
    return True


class Unguarded(Enum):
    """When Neutron's proxy, which has no metadata options, leaves ports unguarded."""

    PLANNED = "are not guarded until this host is enabled"
    ENABLED = "are guarded here, and are not on a host that Neutron's proxy serves"
    BACK = "are no longer guarded"


def unguarded(ports: Iterable[ServedPort], when: Unguarded) -> str:
    """Say which ports have metadata options that Neutron's proxy has not; empty if none have.

    Session tokens that are optional, the default, guard nothing.
    """
    default = MetadataOptions()
    guarded = [each for each in ports if each.options.options.is_stricter_than(default)]
    if not guarded:
        return ""
    names = ", ".join(each.record.port_id for each in guarded[:NAMED])
    more = f" and {len(guarded) - NAMED} more" if guarded[NAMED:] else ""
    return (
        f"Neutron's metadata proxy has no metadata options: ports {names}{more} {when.value}. "
        "docs/metadata-options.md has what the options stop."
    )


def served_ports(config: Config, store: Store) -> list[ServedPort]:
    """The ports of this host that are served, or would be; raises StoreError."""
    bridge = read_switch(config).bridge
    if bridge is None:
        return []
    return list(read_host(config, bridge, store).host_ports.served.values())
