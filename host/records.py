"""Where the port records of this host come from, as its configuration has it.

python-ovs and the follower are loaded by processes that read OVN's records, and by no other.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ovs_metadata.host.config import OVN, Config
from ovs_metadata.host.trunks import sub_port_ids
from ovs_metadata.store.interface import Follower, Listener, PortState
from ovs_metadata.store.snapshot import Snapshot
from ovs_metadata.store.store import Store

if TYPE_CHECKING:
    from ovs_metadata.host.southbound.follower import SouthboundFollower

AGENT = "agent"
"""The process that Neutron's list of agents shows."""

TIMEOUT = 5.0
"""Seconds that the southbound database may take for one look at it."""


class Records(Protocol):
    """A source of records: a `Store`, or OVN's southbound database."""

    def follow(self, listener: Listener) -> Follower:
        """Start to follow ports, none of them at first."""

    def disconnected_for(self) -> float:
        """Seconds for which it has not been connected; 0 while it is."""


class SouthboundRecords:
    """OVN's southbound database, which ovn-controller of this host uses, too.

    Args:
        config: the ini file.
        snapshot: file of this process alone that keeps the followed ports; None keeps nothing.
        shows_agent: show this host's agent in Neutron's list of agents while ports are followed.
    """

    def __init__(
        self, config: Config, snapshot: Path | None = None, *, shows_agent: bool = False
    ) -> None:
        self._config = config
        self._shows_agent = shows_agent
        self._follower: SouthboundFollower | None = None
        self._snapshot = snapshot

    def follow(self, listener: Listener) -> Follower:
        """See `Records`."""
        from ovs_metadata.host.southbound.follower import SouthboundFollower  # noqa: PLC0415
        from ovs_metadata.host.southbound.location import locate  # noqa: PLC0415

        snapshot = Snapshot(self._snapshot, "OVN_Southbound") if self._snapshot else None
        self._follower = SouthboundFollower(
            lambda: locate(self._config), listener, snapshot, shows_agent=self._shows_agent
        )
        return self._follower

    def disconnected_for(self) -> float:
        """See `Records`; 0 before the first follower."""
        return self._follower.disconnected_for() if self._follower else 0.0

    def read(self, port_ids: Collection[str]) -> dict[str, PortState]:
        """The states of some ports at present; raises StoreError."""
        from ovs_metadata.host.southbound.location import locate  # noqa: PLC0415
        from ovs_metadata.host.southbound.look import read_ports  # noqa: PLC0415

        return dict(read_ports(lambda: locate(self._config), port_ids, TIMEOUT).states)


def followed_records(config: Config, store: Store, process: str) -> Records:
    """The source that a process of this host follows."""
    if config.records != OVN:
        return store
    snapshot = southbound_snapshot(config, process)
    return SouthboundRecords(config, snapshot, shows_agent=process == AGENT)


def read_records(config: Config, store: Store, port_ids: Collection[str]) -> dict[str, PortState]:
    """What is known of some ports.

    Raises:
        StoreError: the source cannot be read.
    """
    if config.records == OVN:
        return SouthboundRecords(config).read(port_ids)
    return {port_id: store.state(port_id) for port_id in port_ids}


def read_records_here(
    config: Config, store: Store, port_ids: Collection[str]
) -> dict[str, PortState]:
    """What is known of the ports that this host's interfaces name, and of their sub-ports.

    Raises:
        StoreError: the source cannot be read.
    """
    read = read_records(config, store, port_ids)
    more = sub_port_ids(read.values()) - read.keys()
    return read | read_records(config, store, more) if more else read


def southbound_snapshot(config: Config, process: str) -> Path | None:
    """The file in which a process keeps what it follows in the southbound database."""
    directory = config.store.snapshot_dir
    return directory / f"{process}-southbound.snapshot" if directory else None
